package driver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/internal/storetest"
	"github.com/causeway-net/causeway/records"
)

var methods = []string{ //nolint:gochecknoglobals // the protocol
	"GetCapabilities", "GwAllocCheck", "AllocateNetwork", "FreeNetwork", "CreateNetwork", "DeleteNetwork", "CreateEndpoint",
	"DeleteEndpoint", "EndpointOperInfo", "Join", "Leave", "ProgramExternalConnectivity", "RevokeExternalConnectivity",
	"DiscoverNew", "DiscoverDelete", "NoSuchMethod",
}

// Whatever Docker's socket is sent is answered, in JSON and in a sentence, and a
// container of another network keeps its place.
func FuzzCalls(f *testing.F) {
	canary, fuzzed := strings.Repeat("c", 64), strings.Repeat("f", 64)
	for method, request := range map[string]any{
		"CreateNetwork":  creation(fuzzed, "192.168.2.0/24", "mtu=1400"),
		"CreateEndpoint": endpointOn(fuzzed, "e1", "192.168.2.2/24"),
		"Join":           &network.JoinRequest{NetworkID: fuzzed, EndpointID: "e1"},
		"DeleteEndpoint": &network.DeleteEndpointRequest{NetworkID: fuzzed, EndpointID: "e1"},
		"DeleteNetwork":  &network.DeleteNetworkRequest{NetworkID: fuzzed},
		"GwAllocCheck":   gwAllocCheck{Options: map[string]any{labelGeneric: map[string]any{"mode": "ovs"}}},
	} {
		body, err := json.Marshal(request)
		if err != nil {
			f.Fatal(err)
		}
		for n, name := range methods {
			if name == method {
				f.Add(byte(n), body)
			}
		}
	}
	f.Add(byte(4), []byte(`{"NetworkID":"x","Options":{"com.docker.network.generic":7},"IPv4Data":[null,{"Pool":"1.2.3.4/0"}]}`))
	f.Add(byte(6), []byte(`{"NetworkID":"`+fuzzed+`","EndpointID":"e","Interface":{"Address":"::ffff:1.2.3.4/120","MacAddress":"ff:ff"}}`))

	h := startHost(f, storetest.New(f), 1)
	h.Entry.Logger.SetLevel(logrus.PanicLevel)
	must[empty](h, "CreateNetwork", creation(canary, "192.168.1.0/24"))
	enter(h, canary, "kept", "192.168.1.2/24")
	f.Fuzz(func(t *testing.T, method byte, body []byte) {
		// The network that bodies most often name is there.
		_, _ = post(t, h, "CreateNetwork", mustJSON(t, creation(fuzzed, "192.168.2.0/24")))
		name := methods[int(method)%len(methods)]
		status, text := post(t, h, name, body)
		var answer struct{ Err *string }
		switch err := json.Unmarshal(text, &answer); {
		case err != nil:
			t.Fatalf("%s %q is answered %q: %v", name, body, text, err)
		case (answer.Err == nil) != (status == http.StatusOK):
			t.Errorf("%s %q is answered %d %s", name, body, status, text)
		case answer.Err != nil && (*answer.Err == "" || strings.Contains(*answer.Err, "a fault in causeway")):
			t.Errorf("%s %q is answered %q", name, body, *answer.Err)
		}
		if segment, ok := h.Plane.Segment(networkID(canary)); !ok || len(segment.Local) != 1 {
			t.Fatalf("%s %q takes another network's container away", name, body)
		}
		dropFuzzed(t, h, canary)
	})
}

// dropFuzzed deletes all networks but the canary, as an engine does.
func dropFuzzed(t *testing.T, h *host, canary string) {
	t.Helper()
	prefix := records.HostAttachments("h1")
	attachments, err := h.Records.Store.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	for key := range attachments.Items {
		id := strings.TrimPrefix(key, prefix)
		if id == canary {
			continue
		}
		endpoints, err := h.Records.Store.List(t.Context(), records.NetworkEndpoints(id))
		if err != nil {
			t.Fatal(err)
		}
		for key := range endpoints.Items {
			endpoint := strings.TrimPrefix(key, records.NetworkEndpoints(id))
			post(t, h, "DeleteEndpoint", mustJSON(t, &network.DeleteEndpointRequest{NetworkID: id, EndpointID: endpoint}))
		}
		if status, text := post(t, h, "DeleteNetwork", mustJSON(t, &network.DeleteNetworkRequest{NetworkID: id})); status != http.StatusOK {
			t.Fatalf("network %q cannot be deleted: %s", id, text)
		}
	}
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func post(t *testing.T, h *host, method string, body []byte) (int, []byte) {
	t.Helper()
	response, err := h.client.Post("http://plugin/NetworkDriver."+method, "", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, text
}
