package scale

import (
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/test/bench/report"
)

// TestIdle measures one agent with many networks while nothing happens.
func TestIdle(t *testing.T) {
	s := size{hosts: sized(20, 3), agents: 1, networks: sized(200, 20)}
	s.on, s.endpoints = s.networks, 2*s.networks
	row := fmt.Sprint(s.networks, " networks")
	out := &section{report.Section{
		ID: "idle", Title: "One idle agent", Rows: []report.Row{{Name: row}},
		Intro: "From half a minute after its start on. Its mirror finds no engine and looks for it each second; that is counted, too.",
	}}
	ctx, dir := t.Context(), t.TempDir()
	etcd, err := startEtcd(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.end(t)
	store, err := kvstore.Open(kvstore.Config{Endpoints: []string{etcd.url}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := fill(ctx, store, s); err != nil {
		t.Fatal(err)
	}
	a, err := startAgent(etcd.url, dir, 0, newArrivals())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has its networks", func() bool { return a.plane.has(s.on) })
	settle, period := time.Second, 2*time.Second
	if whole() {
		settle, period = 30*time.Second, 2*time.Minute
	}
	wait(ctx, settle)
	debug.FreeOSMemory() // what the tests before have left in this process
	idle := phase(t, etcd, "idle-one", func() { wait(ctx, period) })
	out.add(row, "idle-requests", "etcd requests in a minute", "requests", idle.requests/period.Minutes())
	out.add(row, "idle-bytes", "etcd bytes in a minute", "bytes", (idle.sent+idle.received)/period.Minutes())
	out.add(row, "idle-cpu", "CPU", "% of a core", 100*idle.own/period.Seconds())
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	keep(t, out)
}
