package ui

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
)

func object[T any](t *testing.T, h *hub, key string) (value T) {
	t.Helper()
	if err := json.Unmarshal(h.objects[key], &value); err != nil {
		t.Fatalf("%s is %s: %v", key, h.objects[key], err)
	}
	return value
}

// A tunnel's round trip is that of the last examination, its loss that of the last twenty.
func TestTunnelsAreSummedUp(t *testing.T) {
	h := newHub()
	e := &examiner{hub: h}
	look := func(answered int, rtt time.Duration) Tunnel {
		t.Helper()
		e.take(doctor.Diagnosis{Tunnels: []doctor.Tunnel{{From: "h1", To: "h2", Kind: "vxlan", Network: "foo", Asked: 2, Answered: answered, RTT: rtt}}})
		return object[Tunnel](t, h, "tunnels/h1/h2/vxlan")
	}
	if got, want := look(1, 123456), (Tunnel{Network: "foo", RTT: 120, Asked: 2, Answered: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for range kept - 1 {
		look(2, 123456)
	}
	if got, want := look(0, 0), (Tunnel{Network: "foo", Asked: 2 * kept, Answered: 2 * (kept - 1)}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	e.take(doctor.Diagnosis{})
	if h.objects["tunnels/h1/h2/vxlan"] != nil {
		t.Error("a tunnel that is not tried any more is shown")
	}
}

// What is found again is the same object, so that it is not sent as gone and new.
func TestFindings(t *testing.T) {
	h := newHub()
	e := &examiner{hub: h}
	found := doctor.Finding{Host: "h1", Check: "tunnels", Cause: "It rains.", Evidence: "3 drops"}
	e.take(doctor.Diagnosis{Findings: []doctor.Finding{found}})
	w := h.watch()
	defer w.close()
	if all := w.take(); len(all.Put) != 1 {
		t.Fatalf("it shows %+v", all)
	}
	found.Evidence = "4 drops"
	e.take(doctor.Diagnosis{Findings: []doctor.Finding{found}})
	if d := w.take(); len(d.Put) != 1 || len(d.Gone) != 0 {
		t.Errorf("it sends %+v", d)
	}
	e.take(doctor.Diagnosis{})
	if d := w.take(); len(d.Put) != 0 || len(d.Gone) != 1 {
		t.Errorf("it sends %+v", d)
	}
}

// mute is an agent that answers nothing.
type mute struct{ Source }

func (mute) Doctor(context.Context, agent.Whom) (doctor.Diagnosis, error) {
	return doctor.Diagnosis{}, errors.New("it is mute")
}

func TestDoctorThatDoesNotAnswerTakesNothingAway(t *testing.T) {
	h := newHub()
	e := &examiner{hub: h, source: mute{}}
	e.take(doctor.Diagnosis{Findings: []doctor.Finding{{Cause: "It rains."}}})
	e.examine(t.Context())
	if got := object[Doctor](t, h, doctorKey); got.Error != "it is mute" || len(h.objects) != 2 {
		t.Errorf("it shows %s", h.objects)
	}
}

func TestRough(t *testing.T) {
	for value, want := range map[float64]float64{0: 0, 1.234: 1.2, 123: 120, 126: 130, 9999: 10000, 87654: 88000} {
		if got := rough(value); got != want {
			t.Errorf("%v is roughly %v, want %v", value, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	h := newHub()
	m := &meter{hub: h}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	read := func(after time.Duration, counters map[string]agent.Counters) string {
		at = at.Add(after)
		m.take(agent.Traffic{Networks: counters, Containers: map[string]agent.Counters{"n1/busy": counters["n1"], "n1/idle": {}}}, at)
		if h.objects["rates/n1/idle"] != nil {
			t.Error("an idle container is told of")
		}
		return string(h.objects["traffic/n1"])
	}
	one := func(bytes uint64) map[string]agent.Counters {
		return map[string]agent.Counters{"n1": {ReceivedBytes: bytes, SentPackets: bytes / 10}}
	}
	for i, step := range []struct {
		after    time.Duration
		counters map[string]agent.Counters
		want     string // in what is shown; empty: nothing is
	}{
		{0, one(1000), ""},
		{2 * time.Second, one(3000), `"received_bytes":1000,"received_packets":0,"sent_bytes":0,"sent_packets":100`},
		{time.Second, one(3000), `"received_bytes":0`},
		{time.Second, one(10), `"received_bytes":0`}, // recreated
		{time.Second, nil, ""},
		{time.Second, one(20), ""},
		{time.Minute, one(30), ""}, // nobody looked meanwhile
		{time.Second, one(40), `"received_bytes":10`},
	} {
		if got := read(step.after, step.counters); (step.want == "") != (got == "") || !strings.Contains(got, step.want) {
			t.Errorf("step %d: it shows %q, want %q", i, got, step.want)
		}
	}
	if got := string(h.objects["rates/n1/busy"]); !strings.Contains(got, `"received_bytes":10`) {
		t.Errorf("the container's are %q", got)
	}
}

// Nothing is asked while nobody looks, and at once when somebody comes.
func TestWhileWatched(t *testing.T) {
	h := newHub()
	ctx, cancel := context.WithCancel(t.Context())
	asked, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		whileWatched(ctx, h, time.Hour, func(context.Context) { asked <- struct{}{} })
	}()
	select {
	case <-asked:
		t.Error("it asks, and nobody looks")
	case <-time.After(50 * time.Millisecond):
	}
	w := h.watch()
	<-asked
	w.close()
	cancel()
	<-done
}
