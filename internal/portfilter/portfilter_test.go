package portfilter

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a network namespace with the host's ends of pairs.
type site struct {
	*nl.Handle
	t *testing.T
}

func newSite(t *testing.T) site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	ns, err := nl.NewNamespace()
	must(t, err)
	defer ns.Close()
	handle, err := nl.Open(ns)
	must(t, err)
	t.Cleanup(func() { handle.Close() })
	return site{handle, t}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s site) port(network fabric.Network, endpoint string) Port {
	s.t.Helper()
	e := fabric.Endpoint{ID: endpoint, MAC: own.mac, Addrs: []netip.Prefix{netip.PrefixFrom(own.addr4, 24)}}
	end, err := nl.Pair{Endpoint: e.ID, MAC: e.MAC, MTU: 1450}.Ensure(s.Handle, s.Handle)
	must(s.t, err)
	return Port{End: end, Rule: RuleOf(network, e)}
}

func (s site) run(command string) string {
	s.t.Helper()
	words := strings.Fields(command)
	cmd := exec.CommandContext(s.t.Context(), words[0], words[1:]...)
	var out []byte
	err := nl.Do(s.NS(), func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		s.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

func TestFiltersComeBackAndGo(t *testing.T) {
	s := newSite(t)
	var filters Filters
	t.Cleanup(func() { filters.Close() })
	network := fabric.Network{Rate: 100_000_000}
	ports := []Port{s.port(network, "a"), s.port(network, "b")}
	for range 2 {
		for _, port := range ports {
			must(t, filters.Put(s.Handle, port))
		}
	}
	end := ports[1].End.Attrs().Name
	for _, harm := range []string{"tc filter del dev " + end + " ingress", "tc qdisc del dev " + end + " clsact", "tc qdisc del dev " + end + " root"} {
		if wrong, err := filters.Wrong(s.Handle, ports); wrong || err != nil {
			t.Fatalf("wrong: %t, %v", wrong, err)
		}
		s.run(harm)
		if wrong, err := filters.Wrong(s.Handle, ports); !wrong || err != nil {
			t.Errorf("%s is not noticed: %v", harm, err)
		}
		if repaired, err := filters.Mend(s.Handle, ports); repaired != 1 || err != nil {
			t.Errorf("%s: repaired %d, %v", harm, repaired, err)
		}
		if text := s.run("tc filter show dev " + end + " ingress"); strings.Count(text, "causeway:") != 1 || !strings.Contains(text, "direct-action") {
			t.Errorf("after %s: %s", harm, text)
		}
		if text := s.run("tc qdisc show dev " + end); !strings.Contains(text, "qdisc tbf ca05: root") || !strings.Contains(text, "rate 100Mbit") {
			t.Errorf("after %s: %s", harm, text)
		}
	}
	must(t, filters.Retain([]fabric.Segment{{Local: []fabric.Endpoint{{ID: "b"}}}}))
	if len(filters.ports) != 1 {
		t.Errorf("after its endpoint went, %d ports are known", len(filters.ports))
	}
}

// TestRestartReplacesFilters has another process's filter in place.
func TestRestartReplacesFilters(t *testing.T) {
	s := newSite(t)
	var before, after Filters
	port := s.port(fabric.Network{}, "a")
	must(t, before.Put(s.Handle, port))
	must(t, before.Close())
	if repaired, err := after.Mend(s.Handle, []Port{port}); repaired != 1 || err != nil {
		t.Errorf("repaired %d, %v", repaired, err)
	}
	t.Cleanup(func() { after.Close() })
	have, err := place().Get(s.Handle, port.End)
	if err != nil || !after.program.Is(have, after.ports["a"].filter()) {
		t.Errorf("attached is %+v, %v", have, err)
	}
}

func TestNothingIsFilteredWhereAllIsAllowed(t *testing.T) {
	s := newSite(t)
	var filters Filters
	t.Cleanup(func() { filters.Close() })
	port := s.port(fabric.Network{}, "a")
	must(t, filters.Put(s.Handle, port))
	open := Port{End: port.End, Rule: RuleOf(fabric.Network{Spoofing: true, BroadcastRate: -1}, fabric.Endpoint{ID: "a"})}
	must(t, filters.Put(s.Handle, open))
	if text := s.run("tc filter show dev " + port.End.Attrs().Name + " ingress"); text != "" {
		t.Errorf("there is still %s", text)
	}
	if wrong, err := filters.Wrong(s.Handle, []Port{open}); wrong || err != nil {
		t.Errorf("wrong: %t, %v", wrong, err)
	}
}

// TestNoLinkNoFilter fails where the port is gone: the container must not get its link.
func TestNoLinkNoFilter(t *testing.T) {
	s := newSite(t)
	var filters Filters
	t.Cleanup(func() { filters.Close() })
	gone := Port{End: &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "cwgone", Index: 77}}, Rule: RuleOf(fabric.Network{}, fabric.Endpoint{ID: "gone"})}
	err := filters.Put(s.Handle, gone)
	if err == nil || !strings.HasPrefix(err.Error(), "filter what endpoint gone may send: add clsact to cwgone: ") {
		t.Errorf("got %v", err)
	}
}

func TestEntriesHaveAllAddresses(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		bytes := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		if rapid.Bool().Draw(t, "v4") {
			return netip.AddrFrom4([4]byte(bytes))
		}
		return netip.AddrFrom16([16]byte(bytes)).Unmap()
	})
	rapid.Check(t, func(t *rapid.T) {
		rule := Rule{Addrs: rapid.SliceOfN(addr, 0, 20).Draw(t, "own"), Floats: rapid.SliceOfN(addr, 0, 20).Draw(t, "floating")}
		want := map[netip.Addr]bool{}
		four, six := 0, 0
		for _, a := range append(rule.Addrs[:len(rule.Addrs):len(rule.Addrs)], rule.Floats...) {
			want[a] = true
			if a.Is4() {
				four++
			} else {
				six++
			}
		}
		e, err := newEntry(rule)
		if (err != nil) != (four > maxAddresses || six > maxAddresses) {
			t.Fatalf("of %d and %d addresses: %v", four, six, err)
		}
		if err != nil {
			return
		}
		got := map[netip.Addr]bool{}
		for i := range maxAddresses {
			if e.Count4 > 0 {
				got[netip.AddrFrom4(e.Addr4[i])] = true
			}
			if e.Count6 > 0 {
				got[netip.AddrFrom16(e.Addr6[i]).Unmap()] = true
			}
		}
		for a := range want {
			if !got[a] {
				t.Errorf("%s is missing", a)
			}
		}
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}
