package engines

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// command runs a program of this machine in the place's network namespace.
func (p place) command(ctx context.Context, argv ...string) *exec.Cmd {
	argv = append([]string{"--net", "--target", fmt.Sprint(p.pid), "--"}, argv...)
	cmd := exec.CommandContext(ctx, "nsenter", argv...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// serve starts a server in the place, waits until it says ready, and gives what ends it.
func (p place) serve(ctx context.Context, ready string, argv ...string) (func(), error) {
	cmd := p.command(ctx, argv...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	end := func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
	}
	lines, said := bufio.NewReader(out), new(strings.Builder)
	for !strings.Contains(said.String(), ready) {
		line, err := lines.ReadString('\n')
		said.WriteString(line)
		if err != nil && !strings.Contains(said.String(), ready) {
			end()
			return nil, fmt.Errorf("%s: it ended: %s", argv[0], strings.TrimSpace(said.String()))
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return end, nil
}

// run gives what a client in the place prints.
func (p place) run(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := p.command(ctx, argv...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s %s", strings.Join(argv, " "), err, strings.TrimSpace(stderr.String()), firstLines(out, 5))
	}
	return out, nil
}

func firstLines(text []byte, n int) string {
	lines := strings.SplitN(strings.TrimSpace(string(text)), "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], " ")
}

// iperf is what iperf3 -J tells of a test.
type iperf struct {
	Error string
	End   struct {
		Received struct {
			Bytes   float64 `json:"bytes"`
			Seconds float64 `json:"seconds"`
			Rate    float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		Sum struct {
			Packets float64 `json:"packets"`
			Lost    float64 `json:"lost_packets"`
			Percent float64 `json:"lost_percent"`
			Seconds float64 `json:"seconds"`
		} `json:"sum"`
	}
}

func (a *attempt) iperf(ctx context.Context, argv ...string) (*iperf, float64, error) {
	end, err := a.server.serve(ctx, "Server listening", "iperf3", "-s", "-1", "--forceflush", "-p", fmt.Sprint(iperfPort))
	if err != nil {
		return nil, 0, err
	}
	defer end()
	before, err := busy()
	if err != nil {
		return nil, 0, err
	}
	out, err := a.client.run(ctx, append([]string{
		"iperf3", "-J", "-c", a.server.addr.String(), "-p", fmt.Sprint(a.server.seen(iperfPort)), "-t", fmt.Sprint(a.seconds),
	}, argv...)...)
	if err != nil {
		return nil, 0, err
	}
	after, err := busy()
	if err != nil {
		return nil, 0, err
	}
	result := new(iperf)
	if err := json.Unmarshal(out, result); err != nil {
		return nil, 0, fmt.Errorf("iperf3's answer: %w", err)
	}
	if result.Error != "" {
		return nil, 0, errors.New("iperf3: " + result.Error)
	}
	return result, after - before, nil
}

// tcp is a stream, or some; the processor's time for it is the whole machine's.
func tcp(ctx context.Context, a *attempt, streams int) error {
	result, cpu, err := a.iperf(ctx, "-P", fmt.Sprint(streams))
	if err != nil {
		return err
	}
	received := result.End.Received
	if received.Bytes == 0 {
		return errors.New("iperf3: no byte arrived")
	}
	a.add(fmt.Sprint("tcp", streams), "Gbit/s", received.Rate/1e9)
	if streams == 1 {
		a.add("cpu", "CPU ms", 1000*cpu/(received.Bytes*8/1e9))
	}
	return nil
}

func udp(ctx context.Context, a *attempt) error {
	result, _, err := a.iperf(ctx, "-u", "-b", "0", "-l", "64")
	if err != nil {
		return err
	}
	sum := result.End.Sum
	if sum.Packets == 0 || sum.Seconds == 0 {
		return errors.New("iperf3: no packet was sent")
	}
	a.add("udp", "received/s", (sum.Packets-sum.Lost)/sum.Seconds)
	a.add("udp", "sent/s", sum.Packets/sum.Seconds)
	a.add("udp", "lost, %", sum.Percent)
	return nil
}

// latency is the way there and back of small messages on one connection.
func latency(ctx context.Context, a *attempt) error {
	end, err := a.server.serve(ctx, "to block on socket", "sockperf", "server", "--tcp", "-p", fmt.Sprint(sockperfPort))
	if err != nil {
		return err
	}
	defer end()
	out, err := a.client.run(ctx, "sockperf", "ping-pong", "--tcp", "--full-rtt", "-i", a.server.addr.String(),
		"-p", fmt.Sprint(a.server.seen(sockperfPort)), "-t", fmt.Sprint(a.seconds), "--msg-size", "64")
	if err != nil {
		return err
	}
	found := 0
	for column, name := range map[string]string{"p50": "50.000", "p90": "90.000", "p99": "99.000", "p99.9": "99.900"} {
		match := regexp.MustCompile(`percentile ` + regexp.QuoteMeta(name) + ` =\s+([0-9.]+)`).FindSubmatch(out)
		if match == nil {
			continue
		}
		value, err := strconv.ParseFloat(string(match[1]), 64)
		if err != nil {
			return err
		}
		a.add("latency", column, value)
		found++
	}
	if found < 4 {
		return fmt.Errorf("sockperf tells %d of 4 percentiles: %s", found, firstLines(out, 30))
	}
	return nil
}

// connects opens TCP connections one after the other, each for one byte and its echo.
func connects(ctx context.Context, a *attempt) error {
	end, err := a.server.acceptEcho(ctx, connectPort)
	if err != nil {
		return err
	}
	defer end()
	count, took, err := a.client.connect(ctx, a.server.addr, a.server.seen(connectPort), time.Duration(a.seconds)*time.Second)
	if err != nil {
		return err
	}
	a.add("connects", "connections/s", float64(count)/took.Seconds())
	return nil
}

// busy is how long the machine's processors have worked since its start, in seconds.
func busy() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	var sum float64
	for n, field := range strings.Fields(line)[1:] {
		ticks, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if n != 3 && n != 4 && n < 7 { // idle, iowait, and from the eighth on what others took or count twice
			sum += ticks
		}
	}
	return sum / 100, nil // USER_HZ
}
