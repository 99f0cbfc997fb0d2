package test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// steadily pings addr from the network namespace of a process, ten times a
// second, until the function is called that it returns; that one fails the test
// if an echo was lost. No engine is in the way: it may be stopped meanwhile.
func (c *cluster) steadily(m *lab.Machine, pid int, addr string) (stop func()) {
	c.Helper()
	ping := m.Command(c.Context(), "nsenter", "--target", fmt.Sprint(pid), "--net", "ping", "-i", "0.1", "-W", "2", addr)
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
		if err != nil || !strings.Contains(out.String(), " 0% packet loss") {
			c.Errorf("%s while things happen: %v\n%s", addr, err, strings.Join(lines[max(0, len(lines)-20):], "\n"))
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
