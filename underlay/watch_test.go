package underlay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/lantest"
)

// watched runs Watch beside the test, and gives the networks that it names.
func watched(t *testing.T, p *Plane) <-chan string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	drifted, ended := make(chan string, 100), make(chan error, 1)
	go func() { ended <- p.Watch(ctx, func(network string) { drifted <- network }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Watch ended with %v", err)
		}
	})
	return drifted
}

// TestWatchSeesWhatOthersChange within the second that drift may cut traffic.
func TestWatchSeesWhatOthersChange(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.Script("iptables-nft -P FORWARD DROP")
	p := newPlane(t, l.Host, t.TempDir())
	drifted := watched(t, p)
	e := endpoint("e1", "192.0.2.128/24")
	s := segment("phys", nil, e)
	apply(t, p, s)
	c := start(l, p, s, e)
	within := func(what string) {
		t.Helper()
		start := time.Now()
		select {
		case network := <-drifted:
			if network != "phys" {
				t.Errorf("%s: network %q", what, network)
			}
			t.Logf("%s: seen after %v", what, time.Since(start))
		case <-time.After(time.Second):
			t.Errorf("%s: not seen within a second", what)
		}
		apply(t, p, s)
	}
	within("a container came up")
	for _, harm := range []string{
		"ip link set eth0 nomaster", "ip link set cw-eth0 down", "ip link del cw-eth0", "ip addr add 192.0.2.10/24 dev eth0",
		"ip link set " + hostEnd(l, "cw-eth0") + " nomaster",
		"tc qdisc del dev " + hostEnd(l, "cw-eth0") + " clsact",
	} {
		l.Host.Script(harm)
		within(harm)
		c.Reaches("192.0.2.1")
		l.Host.Reaches("192.0.2.1")
	}
	if bridgedFramesAreFiltered(l.Host) {
		l.Host.Script("iptables-nft -F FORWARD")
		within("the firewall was flushed")
		c.Reaches("192.0.2.1")
	}
	l.Host.Script("ip link add other0 type veth peer name other1\nip link del other0\niptables-nft -N other")
	p.Invalidate()
	apply(t, p, s)
	prune(t, p)
	select {
	case <-drifted:
		t.Error("what others do, or we ourselves, is taken for drift")
	case <-time.After(time.Second):
	}
}
