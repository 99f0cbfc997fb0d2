package lab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestOVS: hosts whose addresses are on a bridge of Open vSwitch are reached as
// others are, also after it was restarted.
func TestOVS(t *testing.T) {
	if err := checkMachine(); err != nil {
		t.Skip(err)
	}
	l, err := Up(t.Context(), Options{Name: fmt.Sprint("ovs-", os.Getpid()), OVS: true, NoCauseway: true, Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	h1 := l.Hosts()[0]
	run(t, l, "h1", "docker run -d -p 80:80 busybox httpd -f -h /etc")
	check := func(t *testing.T) {
		for _, from := range []string{"h2", "plain"} {
			run(t, l, from, "ping -c 1 -w 10 10.99.0.1") // until one is answered: a new bridge may lose the first
			ping := run(t, l, from, "ping -c 2 -i 0.1 10.99.0.1")
			if strings.Contains(ping, "DUP!") {
				t.Errorf("two answers for one ping: %s", ping)
			}
			run(t, l, from, "ping -c 2 -i 0.1 fd99::1")
			// TCP needs right checksums.
			run(t, l, from, "timeout 10 busybox wget -qO- http://10.99.0.1/hostname")
		}
	}
	check(t)
	t.Run("stopped and started", func(t *testing.T) {
		if err := h1.StopOVS(t.Context()); err != nil {
			t.Fatal(err)
		}
		plain, err := l.Machine(plainName)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := plain.Run(t.Context(), "ping", "-c", "1", "-W", "0.3", "10.99.0.1"); err == nil {
			t.Error("h1 answers without its bridge")
		}
		if err := h1.StartOVS(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
	t.Run("killed", func(t *testing.T) {
		if err := h1.VSwitchd.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := h1.VSwitchd.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		check(t)
	})
}
