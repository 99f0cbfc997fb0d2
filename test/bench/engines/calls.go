package engines

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/causeway-net/causeway/lab"
)

// The calls of one container's life, in their order.
func handlers() []string {
	return []string{"RequestAddress", "CreateEndpoint", "Join", "Leave", "DeleteEndpoint", "ReleaseAddress"}
}

// both is the sum of the two calls that the bar is about.
const both = "CreateEndpoint + Join"

// calls are those that causeway's log tells of from an offset on.
type calls struct {
	*attempt
	from int64
}

// watchCalls begins to look at the calls of the first host; other rows have none.
func (a *attempt) watchCalls() (*calls, error) {
	c := &calls{attempt: a}
	var err error
	if a.has(causeway) {
		c.from, err = logSize(a.hosts[0])
	}
	return c, err
}

// add notes how long each took until now.
func (c *calls) add(figure string) error {
	if !c.has(causeway) {
		return nil
	}
	text, err := readFrom(c.hosts[0].Causeway.Log(), c.from)
	if err != nil {
		return err
	}
	all, err := parseCalls(text)
	if err != nil {
		return err
	}
	var create float64
	for _, call := range all {
		c.attempt.add(figure, call.name, call.ms)
		switch {
		case call.name == "CreateEndpoint":
			create = call.ms
		case call.name == "Join" && figure == "handlers": // one container after the other
			c.attempt.add(figure, both, create+call.ms)
		}
	}
	return nil
}

type took struct {
	name string
	ms   float64
}

// parseCalls reads the lines of the plugin's log at level debug.
func parseCalls(text []byte) (all []took, err error) {
	line := regexp.MustCompile(`call=(?:NetworkDriver|IpamDriver)\.(` + strings.Join(handlers(), "|") + `) took="?([0-9.µmns]+)`)
	for _, match := range line.FindAllSubmatch(text, -1) {
		d, err := time.ParseDuration(string(match[2]))
		if err != nil {
			return nil, err
		}
		all = append(all, took{string(match[1]), milliseconds(d)})
	}
	return all, nil
}

func readFrom(path string, offset int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if _, err := file.Seek(offset, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(file)
}

// engine speaks to a host's causeway as its engine does.
type engine struct {
	host   *lab.Host
	client *http.Client
}

func newEngine(h *lab.Host) *engine {
	path := h.Path("/run/docker/plugins/causeway.sock")
	return &engine{h, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}}
}

// call asks, and decodes the answer into what response points to.
func (e *engine) call(ctx context.Context, method string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := e.client.Do(post)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var failed struct{ Err string }
	if err := json.Unmarshal(text, &failed); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	if failed.Err != "" {
		return fmt.Errorf("%s: %w", method, errors.New(failed.Err))
	}
	return json.Unmarshal(text, response)
}
