package test

import (
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/lab"
)

// TestKeyRotation has traffic until the last keys are gone. make test-faults has it.
func TestKeyRotation(t *testing.T) {
	if which := os.Getenv("CAUSEWAY_FAULTS"); which != "all" && which != "keys" {
		t.Skip("three minutes until the last keys are gone: make test-faults has them; TestVXLAN rotates keys")
	}
	for _, mode := range []fabric.Mode{fabric.ModeVXLAN, fabric.ModeRouted} {
		t.Run(string(mode), func(t *testing.T) {
			c := up(t, lab.Options{Hosts: 2, WireGuard: true})
			c.options = []string{"mode=" + string(mode)}
			keyRotation(c, func(gone func(*cluster)) { gone(c) })
		})
	}
}

// keyRotation replaces hosts' keys of encrypted networks, which loses no packet and has
// none readable between the hosts, also where causeway is killed at its steps. Under the
// traffic, then is given a wait for the last keys to be gone, which takes three minutes.
func keyRotation(c *cluster, then func(gone func(*cluster))) {
	c.encrypts()
	c.network("turning", "--subnet=192.168.94.0/24", "-o", "encrypted=true")
	from := c.host(1).run("turner", "--net=turning")
	to := c.host(2).run("facing", "--net=turning")
	from.pings(to.addr("turning"))
	words := "nobody-reads-it!" // 16 bytes, which ping repeats in what it sends
	pattern := []string{"-p", hex.EncodeToString([]byte(words))}
	overheard := c.overhear(c.host(1), "eth0", words)
	eventually(c.T, "what is not encrypted is overheard", func() error {
		c.must(c.host(1), append([]string{"ping", "-c", "1", c.host(2).vtep().String()}, pattern...)...)
		if overheard() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	overheard = c.overhear(c.host(1), "eth0", words)
	stream := c.session(to.pid(), to.addr("turning"), from.pid())
	const often = 20 * time.Millisecond
	stops := []func(){
		c.steadilyEvery(often, from.Machine, from.pid(), to.addr("turning"), pattern...),
		c.steadilyEvery(often, to.Machine, to.pid(), from.addr("turning"), pattern...),
	}
	one, two := c.host(1).record().WireGuard, c.host(2).record().WireGuard
	c.rotateBoth(c.host(1), c.host(2))
	then(func(c *cluster) {
		c.keyGoes(c.host(1), one)
		c.keyGoes(c.host(2), two)
	})
	for _, stop := range stops {
		stop()
	}
	if err := stream.close(); err != nil {
		c.Errorf("the TCP connection: %v", err)
	}
	if n := overheard(); n != 0 {
		c.Errorf("%d packets of the encrypted network were readable on the wire", n)
	}
	eventually(c.T, "there are no troubles", func() error { return c.host(1).shows("no troubles", "status") })
}

// keyGoes waits until there is nothing of a host's key any more.
func (c *cluster) keyGoes(h *host, key fabric.WireGuard) {
	c.Helper()
	began := time.Now()
	eventuallyWithin(c.T, 5*time.Minute, "the last key of "+h.Name()+" is gone", func() error {
		switch now := h.record(); {
		case now.WireGuard == key:
			return errors.New("the record has the last key")
		case len(now.AllEnds()) > 1:
			return errors.New("the record has two keys")
		}
		out, err := h.try("ip", "-6", "-o", "addr", "show")
		if err == nil && strings.Contains(out, key.Addr().String()) {
			err = errors.New("the last key's address is there")
		}
		return err
	})
	c.Logf("%s has the new key alone after %v more", h.Name(), time.Since(began).Round(time.Millisecond))
}

// rotateKey is as users do it.
func (c *cluster) rotateKey(h *host) {
	c.Helper()
	began := time.Now()
	c.rotated(h.try("causeway", "hosts", "rotate-key"))
	c.Logf("%s uses its new key after %v", h.Name(), time.Since(began).Round(time.Millisecond))
	if _, err := h.try("causeway", "hosts", "rotate-key"); err == nil || !strings.Contains(err.Error(), "still taken") {
		c.Errorf("another key while the last one is still taken: %v", err)
	}
}

// rotated holds what the command says in the end.
func (c *cluster) rotated(out string, err error) {
	c.Helper()
	if err != nil || !strings.Contains(out, "the new key is used") {
		c.Errorf("%v\n%s", err, out)
	}
}

// rotateBoth has one host ask the other for another key, behind a firewall that drops the
// next key's port at first, and have one of its own meanwhile. The other's causeway is
// killed when it has told of its next key, and again when it uses it.
func (c *cluster) rotateBoth(one, h *host) {
	c.Helper()
	before := h.record().WireGuard
	kill := func(what string, when func(fabric.Ends) bool) {
		eventuallyWithin(c.T, time.Minute, what, func() error {
			if !when(h.record().Ends) {
				return errors.New("not yet")
			}
			return nil
		})
		if err := errors.Join(h.Causeway.Kill(c.Context()), h.Causeway.Start(c.Context())); err != nil {
			c.Fatal(err)
		}
	}
	open := c.wall("udp dport 51823")
	var command sync.WaitGroup
	command.Go(func() { c.rotated(one.try("causeway", "hosts", "rotate-key", h.Name())) })
	defer command.Wait()
	kill("it tells of its next key", func(e fabric.Ends) bool { return e.Next.Key != "" })
	eventually(c.T, "it waits for "+one.Name(), func() error {
		out, err := h.try("timeout", "3", "causeway", "hosts", "rotate-key")
		if !strings.Contains(out, "waiting for "+one.Name()) {
			return errors.Join(errors.New(out), err)
		}
		return nil
	})
	c.rotateKey(one)
	if now := h.record(); now.WireGuard != before {
		c.Error("it uses a key whose port a firewall drops")
	}
	open()
	kill("it uses the next key", func(e fabric.Ends) bool { return e.WireGuard != before })
	if now := h.record(); now.WireGuard == before || now.Last != before {
		c.Errorf("then it has %v", now.Ends)
	}
}
