package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// TestOVS holds Open vSwitch to what VXLAN is held to, and to what is its own.
func TestOVS(t *testing.T) {
	c := up(t, lab.Options{Hosts: 2, OVS: true, WireGuard: true})
	c.options = []string{"mode=ovs"}
	t.Run("first contact", func(t *testing.T) { firstContact(c.sub(t)) })
	c.runAll(t)
	t.Run("beside vxlan", func(t *testing.T) { besideVXLAN(c.sub(t)) })
	for tunnel, overhead := range map[string]int{"geneve": 50, "gre": 42} {
		t.Run(tunnel, func(t *testing.T) {
			of := c.sub(t)
			of.options, of.overhead = []string{"mode=ovs", "tunnel=" + tunnel}, overhead
			of.runAll(t, "ping and TCP between hosts", "MTU")
		})
	}
	t.Run("encryption", func(t *testing.T) { encryption(c.sub(t)) })
	t.Run("key rotation", func(t *testing.T) { keyRotation(c.sub(t), func(func(*cluster)) {}) })
	t.Run("sends as itself", func(t *testing.T) { sendsAsItself(c.sub(t)) })
	t.Run("readable", func(t *testing.T) { readable(c.sub(t)) })
	t.Run("switch restarted", func(t *testing.T) { switchRestarted(c.sub(t)) })
}

// TestOVSAbsent asks for a switch where there is none.
func TestOVSAbsent(t *testing.T) {
	c := up(t, lab.Options{Hosts: 1})
	_, err := c.host(1).try("docker", "network", "create", "-d", "causeway", "-o", "mode=ovs", "--subnet=192.168.70.0/24", "switched")
	if err == nil || !strings.Contains(err.Error(), "Open vSwitch") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	_, err = c.host(1).try("docker", "network", "create", "-d", "causeway", "--opt", "encrypted", "--subnet=192.168.71.0/24", "secret")
	want := "install the package wireguard-go"
	if c.host(1).managed() {
		want = "load the module wireguard, or run causeway as a service"
	}
	if err != nil && !strings.Contains(err.Error(), want) { // a kernel may have it
		t.Errorf("got %v", err)
	}
	t.Log(err)
	if c.host(1).has("switched") {
		t.Error("the network is there")
	}
	c.network("tunnelled", "--subnet=192.168.70.0/24")
	c.host(1).run("first", "--net=tunnelled").pings(c.host(1).run("second", "--net=tunnelled").addr("tunnelled"))
}

// TestOVSHung stops the switch in the middle of its work: it takes what is asked,
// and answers nothing. Containers on other networks must not wait for it.
func TestOVSHung(t *testing.T) {
	c := up(t, lab.Options{Hosts: 1, OVS: true})
	h := c.host(1)
	c.network("tunnelled", "--subnet=192.168.70.0/24")
	c.options = []string{"mode=ovs"}
	for n := range 4 {
		name := fmt.Sprintf("switched%d", n+1)
		c.network(name, fmt.Sprintf("--subnet=192.168.%d.0/24", 71+n))
		h.run("on-"+name, "--net="+name)
	}
	tell := func(pid int, signal syscall.Signal) {
		t.Helper()
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
	}
	tell(h.VSwitchd.PID(), syscall.SIGSTOP)
	defer tell(h.VSwitchd.PID(), syscall.SIGCONT)
	tell(h.Causeway.PID(), syscall.SIGHUP) // it reads all networks back
	for n := range 3 {
		begin := time.Now()
		h.run(fmt.Sprintf("on-tunnelled%d", n+1), "--net=tunnelled")
		took := time.Since(begin)
		t.Logf("a container on vxlan was up in %v", took.Round(10*time.Millisecond))
		if took > 8*time.Second { // three for the first silence, and what the engine needs
			t.Errorf("that is too long")
		}
	}
}

// firstContact sends one packet to a host that the switch has not met, five times:
// the userspace datapath drops the packet that it must ask a MAC for.
func firstContact(c *cluster) {
	for n := range 5 {
		for _, h := range []*host{c.host(1), c.host(2)} {
			if _, err := h.try("ovs-appctl", "tnl/neigh/flush"); err != nil {
				c.Fatal(err)
			}
		}
		name := fmt.Sprint("contact", n+1)
		c.network(name, fmt.Sprintf("--subnet=192.168.%d.0/24", 76+n))
		from, to := c.host(1).run(name+"a", "--net="+name), c.host(2).run(name+"b", "--net="+name)
		for end, at := range map[container]*host{from: c.host(2), to: c.host(1)} {
			eventually(c.T, at.Name()+" knows "+end.name, func() error {
				flows, err := at.try("ovs-ofctl", "--no-stats", "dump-flows", "causeway", "table=40")
				if err == nil && !strings.Contains(flows, "dl_dst="+end.mac(name)) {
					err = errors.New("it has no flow to it")
				}
				return err
			})
		}
		if out, err := from.exec("ping", "-c", "1", "-W", "1", to.addr(name)); err != nil {
			c.Errorf("the first packet of %d is lost: %v\n%s", n+1, err, out)
		}
		from.remove(from.name)
		to.remove(to.name)
		c.removeNetwork(name)
	}
}

// besideVXLAN runs a network of each mode on the same hosts, and measures both.
func besideVXLAN(c *cluster) {
	c.network("switch", "--subnet=192.168.72.0/24")
	c.options = nil
	c.network("kernel", "--subnet=192.168.71.0/24")
	for _, name := range []string{"kernel", "switch"} {
		from, to := c.host(1).run(name+"1", "--net="+name), c.host(2).run(name+"2", "--net="+name)
		from.pings(to.addr(name))
		rate, err := c.throughput(from, to, to.addr(name))
		if err != nil {
			c.Error(err)
		}
		c.Logf("one TCP stream on %s: %.2f Gbit/s", name, rate)
	}
}

// throughput sends for two seconds and gives what arrived, in Gbit/s.
func (c *cluster) throughput(from, to container, addr string) (float64, error) {
	listener := c.listen(to, "tcp")
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return 0, err
	}
	conn, err := c.dial(from, "tcp", net.JoinHostPort(addr, port))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	go func() {
		chunk := make([]byte, 1<<20)
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		for {
			if _, err := conn.Write(chunk); err != nil {
				_ = conn.Close()
				return
			}
		}
	}()
	peer, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	defer peer.Close()
	_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
	begin := time.Now()
	count, err := io.Copy(io.Discard, peer)
	return float64(count) * 8 / 1e9 / time.Since(begin).Seconds(), err
}

// nsenter runs a command of the host's in the container's network namespace.
func (c container) nsenter(command string, args ...string) string {
	c.c.Helper()
	enter := []string{"nsenter", "--target", strconv.Itoa(c.pid()), "--net", command}
	out, err := c.try(append(enter, args...)...)
	if err != nil {
		c.c.Fatal(err)
	}
	return out
}

// readable looks at the switch as its administrator does.
func readable(c *cluster) {
	c.network("plain", "--subnet=192.168.74.0/24")
	one := c.host(1).run("plain1", "--net=plain")
	c.host(2).run("plain2", "--net=plain")
	one.pings(c.host(1).run("plain3", "--net=plain").addr("plain"))
	eventually(c.T, "the port bears the container's name", func() error {
		out, err := c.host(1).try("ovs-vsctl", "--bare", "--columns=name", "find", "Interface", "external_ids:causeway-container=plain1")
		if err == nil && out == "" {
			return errors.New("no port does")
		}
		return err
	})
	for want, command := range map[string][]string{
		"remote_ip=flow":        {"ovs-vsctl", "show"},
		"causeway-network":      {"ovs-vsctl", "--columns=name,external_ids", "find", "Interface", "external_ids:causeway-network!=x"},
		"arp_tpa=192.168.74.2,": {"ovs-ofctl", "--no-stats", "dump-flows", "causeway"},
	} {
		out, err := c.host(1).try(command...)
		if err != nil {
			c.Fatal(err)
		}
		c.Logf("%s\n%s", strings.Join(command, " "), out)
		if !strings.Contains(out, want) {
			c.Errorf("it lacks %s", want)
		}
	}
}

// switchRestarted stops the switch, and then changes what is on it by hand, under
// traffic, which must be back within five seconds.
func switchRestarted(c *cluster) {
	c.network("lasting", "--subnet=192.168.75.0/24")
	from, to := c.host(1).run("lasting1", "--net=lasting"), c.host(2).run("lasting2", "--net=lasting")
	addr := to.addr("lasting")
	from.pings(addr)
	for _, fault := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"Open vSwitch restarted", func(ctx context.Context) error {
			return errors.Join(c.host(2).StopOVS(ctx), c.host(2).StartOVS(ctx))
		}},
		{"the bridge deleted by hand", func(context.Context) error {
			_, err := c.host(2).try("ovs-vsctl", "del-br", "causeway")
			return err
		}},
		{"the flows deleted by hand", func(context.Context) error {
			_, err := c.host(2).try("ovs-ofctl", "del-flows", "causeway")
			return err
		}},
		{"the tunnel port deleted by hand", func(context.Context) error {
			_, err := c.host(2).try("ovs-vsctl", "del-port", "cwvxlan")
			return err
		}},
		{"the next hops of tunnels lost", func(context.Context) error {
			_, err := c.host(2).try("ovs-appctl", "tnl/neigh/flush")
			return err
		}},
	} {
		if err := fault.do(c.Context()); err != nil {
			c.Fatal(err)
		}
		begin := time.Now()
		from.nsenter("ping", "-n", "-q", "-c", "1", "-i", "0.1", "-w", "5", addr)
		c.Logf("%s: traffic is back after %v", fault.name, time.Since(begin).Round(10*time.Millisecond))
	}
}
