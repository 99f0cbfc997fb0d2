package underlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/addrprobe"
	"github.com/causeway-net/causeway/internal/lantest"
)

// limit is how long a probe waits.
const limit = 400 * time.Millisecond

func TestProbe(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newPlane(t, l.Host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
	s := segment("phys", nil, e)
	for _, when := range []string{"on the NIC", "on the bridge"} {
		for addr, want := range map[string]bool{
			"192.0.2.200": true, "192.0.2.1": true, "192.0.2.10": true, "192.0.2.77": false,
			"2001:db8:1::200": true, "2001:db8:1::10": true, "2001:db8:1::77": false,
		} {
			t.Run(when+" "+addr, func(t *testing.T) {
				start := time.Now()
				holder, taken, err := p.Probe(t.Context(), s.Network, netip.MustParseAddr(addr))
				if taken != want || err != nil {
					t.Errorf("taken is %v, %v; want %v", taken, err, want)
				}
				if taken && holder == (fabric.MAC{}) {
					t.Error("the holder has no MAC")
				}
				t.Logf("%v", time.Since(start))
			})
		}
		apply(t, p, s)
	}
	start(l, p, s, e)
	for _, addr := range e.Addrs {
		if holder, taken, err := p.Probe(t.Context(), s.Network, addr.Addr()); !taken || holder != e.MAC || err != nil {
			t.Errorf("%s: %v by %s, %v; want our own container's", addr, taken, holder, err)
		}
	}
}

func TestProbeTurnedOffOrBrokenOff(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newPlane(t, l.Host, t.TempDir())
	off := segment("phys", func(n *fabric.Network) { n.NoProbe = true })
	if _, taken, err := p.Probe(t.Context(), off.Network, netip.MustParseAddr("192.0.2.1")); taken || err != nil {
		t.Errorf("probe=false asked all the same: %v, %v", taken, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err := p.Probe(ctx, segment("phys", nil).Network, netip.MustParseAddr("192.0.2.77"))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > limit/2 {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

// TestProbeWithoutAWay has a NIC that is down, and one that nobody is behind.
func TestProbeWithoutAWay(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	l.Host.IP(`link add down0 type veth peer name down1
		link add dead0 type veth peer name dead1
		link set dead0 up`)
	p := newPlane(t, l.Host, t.TempDir())
	for _, nic := range []string{"down0", "dead0", "none0"} {
		start := time.Now()
		_, taken, err := p.Probe(t.Context(), fabric.Network{Parent: nic}, netip.MustParseAddr("192.0.2.99"))
		if taken || err != nil || time.Since(start) > 2*limit {
			t.Errorf("%s: taken is %v, %v, after %v", nic, taken, err, time.Since(start))
		}
	}
}

// TestProbeIsBounded has a wire on which a machine announces other addresses all the time.
func TestProbeIsBounded(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newPlane(t, l.Host, t.TempDir())
	stop, stopped := make(chan struct{}), make(chan struct{})
	link, other := l.Plain.Link("eth0"), []netip.Prefix{netip.MustParsePrefix("192.0.2.201/24"), netip.MustParsePrefix("2001:db8:1::201/64")}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				_ = addrprobe.Announce(l.Plain.NS, link, fabric.MAC{2, 0, 0, 0, 0, 7}, other)
			}
		}
	}()
	for _, addr := range []string{"192.0.2.77", "2001:db8:1::77"} {
		start := time.Now()
		_, taken, err := p.Probe(t.Context(), segment("phys", nil).Network, netip.MustParseAddr(addr))
		if took := time.Since(start); taken || err != nil || took < limit || took > 2*limit {
			t.Errorf("%s: taken is %v, %v, after %v", addr, taken, err, took)
		}
	}
	close(stop)
	<-stopped
}

// TestNeighboursLearn has the plain machine believe in another holder first.
func TestNeighboursLearn(t *testing.T) {
	t.Parallel()
	l := lantest.NewLAN(t)
	p := newPlane(t, l.Host, t.TempDir())
	e := endpoint("e1", "192.0.2.128/24", "2001:db8:1::128/64")
	s := segment("phys", nil, e)
	apply(t, p, s)
	learnt := func(when string) {
		t.Helper()
		lantest.Eventually(t, "the plain machine learns the holder "+when, func() error {
			got := l.Plain.Run("ip", "neigh", "show", "to", "192.0.2.128") + l.Plain.Run("ip", "-6", "neigh", "show", "to", "2001:db8:1::128")
			if strings.Count(got, e.MAC.String()) != 2 {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	forget := func() {
		l.Plain.IP(`neigh replace 192.0.2.128 lladdr 02:00:00:00:00:99 dev eth0 nud stale
			-6 neigh replace 2001:db8:1::128 lladdr 02:00:00:00:00:99 dev eth0 nud stale`)
	}
	forget()
	link, err := p.Plug(t.Context(), s, e)
	if err != nil {
		t.Fatal(err)
	}
	learnt("when it is plugged")
	forget()
	if lost := p.lostLinks(t.Context()); len(lost) > 0 {
		t.Error("lost before the container is up")
	}
	l.Host.IP("link set " + link + " up")
	lantest.Eventually(t, "the plane sees that the container is up", func() error {
		if len(p.lostLinks(t.Context())) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	apply(t, p, s)
	learnt("when it is up")
	if lost := p.lostLinks(t.Context()); len(lost) > 0 {
		t.Error("lost after the announcement")
	}
}
