package test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// steadily pings addr from the network namespace of a process, ten times a
// second, until the function is called that it returns; that one fails the test
// if an echo was lost, or none came in the last second. No engine is in the way: it may be stopped meanwhile.
func (c *cluster) steadily(m *lab.Machine, pid int, addr string) (stop func()) {
	c.Helper()
	return c.steadilyEvery(100*time.Millisecond, m, pid, addr)
}

// steadilyEvery is steadily at an interval, with more arguments of ping.
func (c *cluster) steadilyEvery(interval time.Duration, m *lab.Machine, pid int, addr string, more ...string) (stop func()) {
	c.Helper()
	argv := []string{"nsenter", "--target", fmt.Sprint(pid), "--net", "ping", "-i", fmt.Sprint(interval.Seconds()), "-W", "2", addr}
	ping := m.Command(c.Context(), append(argv, more...)...)
	var out bytes.Buffer
	ping.Stdout, ping.Stderr = &out, &out
	if err := ping.Start(); err != nil {
		c.Fatal(err)
	}
	begun := time.Now()
	return func() {
		c.Helper()
		if err := ping.Process.Signal(os.Interrupt); err != nil {
			c.Error(err)
		}
		err := ping.Wait()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		lost, onTheWay := unanswered(out.String())
		if err != nil || len(lost) > 0 || onTheWay > int(time.Second/interval) {
			c.Errorf("%s while things happen: %v, echoes %v are lost\n%s", addr, err, lost, strings.Join(lines[max(0, len(lines)-20):], "\n"))
			return
		}
		c.Logf("%s, over %v: %s", addr, time.Since(begun).Round(100*time.Millisecond), lines[len(lines)-2])
	}
}

// steadyFrom is steadily from a container.
func (c *cluster) steadyFrom(from container, addr string) (stop func()) {
	c.Helper()
	return c.steadily(from.Machine, from.pid(), addr)
}

// unanswered are the echoes of ping that were lost, and the number of those at its end that
// may have been on their way still.
func unanswered(out string) (lost []int, onTheWay int) {
	answered := make(map[int]bool)
	last := 0
	for _, match := range regexp.MustCompile(`icmp_seq=(\d+) ttl=`).FindAllStringSubmatch(out, -1) {
		number, _ := strconv.Atoi(match[1]) // as the pattern has it
		answered[number], last = true, max(last, number)
	}
	for number := 1; number < last; number++ {
		if !answered[number] {
			lost = append(lost, number)
		}
	}
	sent := regexp.MustCompile(`(\d+) packets transmitted`).FindStringSubmatch(out)
	if sent == nil {
		return lost, 0
	}
	count, _ := strconv.Atoi(sent[1])
	return lost, count - last
}
