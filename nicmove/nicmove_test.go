package nicmove

import (
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netns"
	"go.uber.org/goleak"

	"github.com/causeway-net/causeway/internal/lantest"
)

func TestMain(m *testing.M) {
	if child := os.Getenv(childEnv); child != "" {
		os.Exit(runChild(child))
	}
	goleak.VerifyTestMain(m)
}

const mark = "causeway test "

func nic(parent string) Place { return Place{Bridge: "cw-" + parent, Parent: parent} }

// newMover is the host's causeway, with the folder of its journal.
func newMover(t *testing.T, host *lantest.Machine, folder string) *Mover {
	t.Helper()
	m, err := open(host.NS, folder, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func open(ns netns.NsHandle, folder string, out io.Writer) (*Mover, error) {
	return Open(Config{NS: ns, Journal: folder, Mark: mark, Questions: pingsFrom(ns, "192.0.2.1"), ConfirmLimit: 2 * time.Second, Log: logger(out)})
}

func logger(out io.Writer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(out)
	return logrus.NewEntry(log)
}

func apply(t *testing.T, m *Mover, place Place) {
	t.Helper()
	if _, err := m.Ensure(t.Context(), place, false); err != nil {
		t.Fatal(err)
	}
}

// prune releases all but the places to keep.
func prune(t *testing.T, m *Mover, keep ...Place) {
	t.Helper()
	for _, place := range m.Places() {
		if !slices.ContainsFunc(keep, func(k Place) bool { return k.Bridge == place.Bridge }) {
			if err := m.Release(place.Bridge); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// lost says whether the bridge is not as it was made.
func lost(t *testing.T, m *Mover, place Place) bool {
	t.Helper()
	fine, err := m.InPlace(place.Bridge)
	if err != nil {
		t.Fatal(err)
	}
	return !fine
}

// repairs has the mover find out by itself, and repair.
func repairs(t *testing.T, m *Mover, place Place) {
	t.Helper()
	if !lost(t, m, place) {
		t.Error("nothing is lost")
	}
	if changed, err := m.Ensure(t.Context(), place, false); !changed || err != nil {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if lost(t, m, place) {
		t.Error("something is lost after Ensure")
	}
	if changed, err := m.Ensure(t.Context(), place, false); changed || err != nil {
		t.Errorf("a second Ensure changed %v, %v", changed, err)
	}
}
