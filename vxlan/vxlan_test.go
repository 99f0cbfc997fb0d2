package vxlan

import (
	"io"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/nl"
	"github.com/causeway-net/causeway/internal/planetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quiet() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logrus.NewEntry(logger)
}

// suite is the common suite's view of this data plane.
func suite(vtep string) planetest.Config {
	return planetest.Config{
		Mode: fabric.ModeVXLAN,
		VTEP: netip.MustParseAddr(vtep),
		New: func(t *testing.T, host *planetest.Host) planetest.Plane {
			return newPlane(t, host)
		},
		Network:  func(number int) fabric.Network { return fabric.Network{VNI: 0x800000 + uint32(number)} },
		Text:     text,
		Cut:      cut,
		Responds: true,
	}
}

func newPlane(t *testing.T, host *planetest.Host) *Plane {
	t.Helper()
	dir := filepath.Join(host.Dir, "netns")
	plane, err := New(Config{Dir: dir, HostNS: host.NS, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, name := range names {
			if err := nl.Unbind(name); err != nil {
				t.Error(err)
			}
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	return plane
}

var timers = regexp.MustCompile(` \w+_timer +[\d.]+`)

// text is the kernel's own text of a segment, without what it learns by itself.
func text(t *testing.T, host *planetest.Host, segment fabric.Segment) string {
	t.Helper()
	ns, err := nl.OpenNamespace(filepath.Join(host.Dir, "netns", nsPrefix+fabric.ShortHash(segment.Network.ID)))
	if err != nil {
		return "no namespace\n"
	}
	defer ns.Close()
	var all strings.Builder
	for _, command := range []string{
		"ip -d link show", "ip address show", "bridge -d link show",
		"ip neigh show nud permanent", "bridge fdb show dev vxlan0",
	} {
		words := strings.Fields(command)
		out, err := planetest.Output(t, ns, words[0], words[1:]...)
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		lines := strings.Split(timers.ReplaceAllString(out, ""), "\n")
		if words[1] != "-d" {
			slices.Sort(lines)
		}
		lines = slices.DeleteFunc(lines, func(line string) bool {
			return line == "" || words[1] == "fdb" && strings.HasSuffix(line, "master br0 ") // learned
		})
		all.WriteString("# " + command + "\n" + strings.Join(lines, "\n") + "\n")
	}
	return all.String()
}

func cut(t *testing.T, host *planetest.Host, segment fabric.Segment) {
	t.Helper()
	ns, err := nl.OpenNamespace(filepath.Join(host.Dir, "netns", nsPrefix+fabric.ShortHash(segment.Network.ID)))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, command := range []string{
		"ip neigh flush dev br0 nud permanent",
		"bridge fdb del " + segment.Remote[0].MAC.String() + " dev vxlan0 master",
		"bridge fdb del " + segment.Remote[0].MAC.String() + " dev vxlan0 self",
		"bridge fdb del 00:00:00:00:00:00 dev vxlan0 self",
	} {
		words := strings.Fields(command)
		if out, err := planetest.Output(t, ns, words[0], words[1:]...); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
}

func TestSuite(t *testing.T)         { planetest.Run(t, suite("10.99.0.0")) }
func TestSuiteOverIPv6(t *testing.T) { planetest.Run(t, suite("fd99::")) }
