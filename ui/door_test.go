package ui

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/records"
)

func TestListenRefusesWhatOthersReach(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "10.99.0.1:0", "[::]:0", "example.com:80", "127.0.0.1", "9469", "", "unix:ui.sock", "unix:"} {
		listener, err := Listen(t.Context(), address)
		if err == nil {
			listener.Close()
			t.Errorf("it listens on %q", address)
		} else if !strings.HasPrefix(err.Error(), "listen on ") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.sock")
	for _, address := range []string{"127.0.0.1:0", "localhost:0", "unix:" + path} {
		listener, err := Listen(t.Context(), address)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others than root may open the socket: %v, %v", info.Mode(), err)
	}
}

// get asks with a Host header of its own; an empty one is that of the address.
func get(t *testing.T, method, url, host string) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if strings.HasSuffix(url, "/events") && response.StatusCode == http.StatusOK {
		return response, ""
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

func TestDoor(t *testing.T) {
	url := serve(t, &source{})
	for _, test := range []struct {
		method, path, host string
		status             int
	}{
		{"GET", "", "", 200},
		{"GET", "", "localhost", 200},
		{"GET", "", "localhost:8080", 200},
		{"GET", "", "127.0.0.1:1", 200},
		{"GET", "", "[::1]:9469", 200},
		{"GET", "", "[::1]", 200},
		{"HEAD", "app.js", "", 200},
		{"GET", "nothing", "", 404},
		{"GET", "", "evil.example", 403},
		{"GET", "", "evil.example:9469", 403},
		{"GET", "", "localhost.evil.example", 403},
		{"GET", "", "127.0.0.1.evil.example", 403},
		{"GET", "", "10.99.0.1:9469", 403},
		{"GET", "events", "evil.example", 403},
		{"POST", "", "", 405},
		{"DELETE", "events", "", 405},
	} {
		response, text := get(t, test.method, url+test.path, test.host)
		if response.StatusCode != test.status {
			t.Errorf("%s /%s of %q: %s %s", test.method, test.path, test.host, response.Status, text)
		}
		got := response.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(got, want) || strings.Contains(got, "unsafe") {
				t.Errorf("/%s has the policy %q, which lacks %s", test.path, got, want)
			}
		}
	}
}

// The page's files name no other place, and have nothing inline that the policy refuses.
func TestFilesAreThePagesOwn(t *testing.T) {
	url := serve(t, &source{})
	for _, name := range []string{"", "app.js", "store.js", "dom.js", "views.js", "links.js", "addresses.js", "search.js", "style.css"} {
		response, text := get(t, "GET", url+name, "")
		if response.StatusCode != http.StatusOK {
			t.Errorf("/%s: %s", name, response.Status)
		}
		for _, outside := range []string{"https://", "http://", "@import", "innerHTML", "style=", "onclick="} {
			if strings.Contains(text, outside) {
				t.Errorf("/%s has %s", name, outside)
			}
		}
	}
}

// stream reads events.
type stream struct {
	t    *testing.T
	from *bufio.Scanner
}

func (s stream) next() (d Delta) {
	s.t.Helper()
	for s.from.Scan() {
		if data, ok := strings.CutPrefix(s.from.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(data), &d); err != nil {
				s.t.Fatal(err)
			}
			return d
		}
	}
	s.t.Fatalf("the stream has ended: %v", s.from.Err())
	return d
}

// A page is sent all once, and then what changed alone, until the server ends; while the
// agent is away it is told so, and nothing is taken away.
func TestEvents(t *testing.T) {
	s := &source{changes: make(chan agent.Change)}
	url := serve(t, s)
	host := fabric.Host{Name: "h1", Version: "1.0"}
	s.put(t, records.HostsPrefix, true, map[string]any{"h1": host, "h2": fabric.Host{Name: "h2"}})
	s.put(t, records.AlivePrefix, true, map[string]any{})
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	events := stream{t, bufio.NewScanner(response.Body)}
	table := map[string]json.RawMessage{}
	until := func(what string, done func() bool) (hosts int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !done(); {
			if time.Now().After(end) {
				t.Fatalf("never: %s: %s", what, table)
			}
			d := events.next()
			for key := range d.Put {
				if strings.HasPrefix(key, hostsKind) {
					hosts++
				}
			}
			merge(table, d)
		}
		return hosts
	}
	until("both hosts", func() bool { return table["hosts/h1"] != nil && table["hosts/h2"] != nil && table["agent"] != nil })
	s.put(t, records.AlivePrefix, false, map[string]any{"h1": records.Alive{Since: time.Now()}})
	if sent := until("h1 lives", func() bool { return strings.Contains(string(table["hosts/h1"]), `"alive_since":"2`) }); sent != 1 {
		t.Errorf("%d hosts were sent for one that changed", sent)
	}
	s.changes <- agent.Change{Prefix: records.HostsPrefix, Gone: []string{"h2"}}
	until("h2 is gone", func() bool { return table["hosts/h2"] == nil })

	close(s.changes)
	until("the agent is away", func() bool { return strings.Contains(string(table["agent"]), "the agent has ended") })
	if table["hosts/h1"] == nil {
		t.Error("what was known is gone with the agent")
	}
}

// A page by way of a unix socket, as ssh forwards it.
func TestServeOnASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ui.sock")
	listener, err := Listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := handler(newHub())
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: h}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() { server.Close(); <-done }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: localhost:8080\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "<title>causeway</title>") {
		t.Errorf("%v: %s", err, answer)
	}
}
