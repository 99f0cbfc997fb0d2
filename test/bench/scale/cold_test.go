package scale

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// cold stops the first agent and starts it again in a process of its own.
func cold(t *testing.T, f *section, row string, s size, etcd *server, running []*agent, dir string) {
	if err := running[0].stop(); err != nil {
		t.Fatal(err)
	}
	running[0] = nil
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self, "-on="+fmt.Sprint(s.on))
	command.Env = append(os.Environ(), "CAUSEWAY_BENCH=start", "CAUSEWAY_BENCH_DIR="+dir, "CAUSEWAY_BENCH_ETCD="+etcd.url)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var seconds, memory, cpu float64
	if _, err := fmt.Sscan(string(out), &seconds, &memory, &cpu); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	f.add(row, "cold-start", "cold start of one agent, alone in its process", "s", seconds)
	f.add(row, "cold-memory", "its memory at most", "MiB", memory)
	f.add(row, "cold-cpu", "its CPU for that", "s", cpu)
}

// startCold is the process of that agent.
func startCold(etcd, dir string) error {
	began := time.Now()
	a, err := startAgent(etcd, dir, 0, newArrivals())
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !a.plane.has(*on) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(began)
	_, peak := rss()
	fmt.Fprintln(os.Stdout, took.Seconds(), peak, ownCPU().Seconds())
	return a.stop()
}
