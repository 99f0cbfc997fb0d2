package wireguard

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/health"
)

// alone runs do in network and mount namespaces of its own, with what wireguard-go keeps
// there: its sockets have the devices' names.
func alone(t *testing.T, do func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make network namespaces")
	}
	// The lab's copy of wireguard-go stands in where the kernel has no WireGuard.
	t.Setenv("PATH", os.Getenv("PATH")+":/var/cache/causeway-lab/wireguard/usr/bin")
	done := make(chan error, 1)
	go func() {
		err := errors.New("the test broke off")
		defer func() { done <- err }()
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return
		}
		if err = unix.Mount("tmpfs", "/run", "tmpfs", 0, ""); err != nil {
			return
		}
		do()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// sealing notes what is sealed.
type sealing struct{ addrs []netip.Addr }

func (s *sealing) Seal(addrs []netip.Addr) error {
	s.addrs = addrs
	return nil
}

func command(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

func openDevice(t *testing.T, path string) (*Device, *sealing) {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	log, filter := logrus.NewEntry(logger), &sealing{}
	d, err := Open(Config{
		Host: fabric.Host{Name: "h1", VTEP: netip.MustParseAddr("10.0.0.1"), MTU: 1500},
		Port: 51822, Path: path, Filter: filter, Board: health.New(log), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, filter
}

// TestStepsOfARotation holds what the kernel has at each step, that a start after it finds
// and mends the same, and that nothing leaves from an address but by its own device.
func TestStepsOfARotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.json")
	alone(t, func() {
		d, _ := openDevice(t, path)
		d.SetHosts(map[string]fabric.Host{"h2": otherHost(t, 2), "h3": otherHost(t, 3)})
		if err := d.Ensure(t.Context()); errors.Is(err, ErrNoWireGuard) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		next, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		first := d.keys.current
		for _, step := range []struct {
			name    string
			take    func(keyring) keyring
			devices map[string]wgtypes.Key
		}{
			{"offered", func(k keyring) keyring { return k.offer(next) }, map[string]wgtypes.Key{"cw-wg0": first, "cw-wg1": next}},
			{"switched", func(k keyring) keyring { return k.takeUp(time.Now()) }, map[string]wgtypes.Key{"cw-wg0": first, "cw-wg1": next}},
			{"retired", keyring.retire, map[string]wgtypes.Key{"cw-wg1": next}},
		} {
			if err := d.change(t.Context(), step.take); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			again, sealed := openDevice(t, path) // as after a kill
			again.check(t.Context())
			for name, private := range step.devices {
				hasDevice(t, step.name+", without the store", name, private)
			}
			if step.name == "offered" {
				made, _, err := again.sessions(t.Context())
				if waits, _ := (&offering{}).observe(time.Now(), made, again.Timing); err != nil || len(waits) == 0 {
					t.Errorf("the next key waits for nobody before it is known who there is: %v", err)
				}
			}
			again.SetHosts(d.hosts)
			for name, private := range step.devices {
				hasDevice(t, step.name, name, private)
				command(t, "ip link delete "+name)
				command(t, "ip -6 rule delete from "+addrOf(private).String())
			}
			again.check(t.Context())
			for name, private := range step.devices {
				hasDevice(t, step.name+" and mended", name, private)
			}
			if links := strings.Count(command(t, "ip -o link show"), "cw-wg"); links != len(step.devices) {
				t.Errorf("%s: there are %d devices", step.name, links)
			}
			for _, private := range []wgtypes.Key{first, next} {
				closed(t, step.name, private, !slices.Contains(slices.Collect(maps.Values(step.devices)), private))
				if !slices.Contains(sealed.addrs, addrOf(private)) {
					t.Errorf("%s: %s is not sealed", step.name, addrOf(private))
				}
			}
			d = again
		}
		for number := range slots { // wireguard-go ends with it
			_ = d.kernel.Remove(deviceName(number))
		}
	})
}

// TestKeyIsRotatedByAge holds what others are told, step by step.
func TestKeyIsRotatedByAge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wireguard.json")
	alone(t, func() {
		first, err := readKeys(path, time.Now().Add(-2*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		d, _ := openDevice(t, path)
		d.Age, d.Timing = time.Hour, Timing{time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
		d.SetHosts(map[string]fabric.Host{})
		if err := d.Ensure(t.Context()); errors.Is(err, ErrNoWireGuard) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		var told []fabric.Ends
		err = d.KeepKeys(ctx, func(_ context.Context, ends fabric.Ends) error {
			if told = append(told, ends); len(ends.AllEnds()) == 1 {
				stop()
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		old := endOf(first.current, 51822)
		if len(told) != 3 {
			t.Fatalf("others are told %v", told)
		}
		next := told[0].Next
		want := []fabric.Ends{{WireGuard: old, Next: next}, {WireGuard: next, Last: old}, {WireGuard: next}}
		if !slices.Equal(told, want) || next.Port != 51823 {
			t.Errorf("others are told %v, not %v", told, want)
		}
		_ = d.kernel.Remove(deviceName(1)) // wireguard-go ends with it
	})
}

func otherHost(t *testing.T, number byte) fabric.Host {
	t.Helper()
	private, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return fabric.Host{VTEP: netip.AddrFrom4([4]byte{10, 0, 0, number}), Ends: fabric.Ends{WireGuard: endOf(private, 51822)}}
}

// hasDevice holds that there is the device of a key, with both peers and the way there.
func hasDevice(t *testing.T, when, name string, private wgtypes.Key) {
	t.Helper()
	have, err := configuration(name)
	if err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	port := map[string]int{"cw-wg0": 51822, "cw-wg1": 51823}[name]
	if have.PrivateKey != private || have.ListenPort != port || len(have.Peers) != 2 {
		t.Errorf("%s: %s has port %d, %d peers, its key: %t", when, name, have.ListenPort, len(have.Peers), have.PrivateKey == private)
	}
	way := command(t, "ip -6 route get fd00::1 from "+addrOf(private).String())
	if !strings.Contains(way, "dev "+name) {
		t.Errorf("%s: from the address of %s it goes by %s", when, name, way)
	}
}

// closed holds that what comes from the address of a key has one way, to its own table of
// routes, and from a key that is gone nowhere.
func closed(t *testing.T, when string, private wgtypes.Key, gone bool) {
	t.Helper()
	addr := addrOf(private).String()
	if rules := command(t, "ip -6 rule show from "+addr); strings.Count(rules, "lookup") != 1 {
		t.Errorf("%s: the rules from %s are %q", when, addr, rules)
	}
	if !gone {
		return
	}
	out, err := exec.CommandContext(t.Context(), "ip", "-6", "route", "get", "fd00::1", "from", addr).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "No route to host") {
		t.Errorf("%s: from %s it goes by %s", when, addr, out)
	}
}
