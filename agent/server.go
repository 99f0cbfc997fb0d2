package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/doctor"
	"github.com/causeway-net/causeway/fabric"
	"github.com/causeway-net/causeway/internal/faults"
	"github.com/causeway-net/causeway/internal/health"
	"github.com/causeway-net/causeway/internal/hostfilter"
	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/names"
	"github.com/causeway-net/causeway/records"
	"github.com/causeway-net/causeway/trust"
)

// Config is what the agent answers from.
type Config struct {
	Host  fabric.Host
	Store kvstore.Store
	// Faults lists what is wrong on this host, as [health.Board.Faults] does.
	Faults func() []health.Fault
	// Drops tells what this host's packet filter kept out; nil where there is none.
	Drops func() ([]hostfilter.Drop, error)
	// PortDrops counts what was dropped at the ports of this host's containers, by endpoint ID.
	PortDrops func(ctx context.Context) (map[string]fabric.Drops, error)
	// Traffic reads the devices of this host's networks and containers; Host is left out.
	Traffic func(ctx context.Context) (Traffic, error)
	// Talk measures who talks to whom on this host, as [talk.Meter.Rates] does.
	Talk func(ctx context.Context) ([]talk.Conversation, error)
	// Planes are asked by doctor what is not as planned.
	Planes    doctor.Planes
	Tunnels   doctor.Tunnels
	VXLANPort uint16
	// Device names the interface by which an underlay network's bridge is on the LAN.
	Device func(fabric.Network) string
	// RunDir is the host's /run, SandboxDir where the engine names its containers' namespaces.
	RunDir, SandboxDir string
	// Certificates are files of the user's, which nobody renews.
	Certificates []string
	// Resolve tells what a container of this host would be told about a name, as
	// [names.Server.Resolve] does.
	Resolve func(name, from string) (names.Resolution, error)
	// Roles says what hosts do in the store of a closed cluster, by their keys; nil
	// where the store is not theirs.
	Roles func(ctx context.Context) (map[string]string, error)
	// Backup writes a snapshot of the store.
	Backup func(ctx context.Context, w io.Writer) error
	// NewToken makes a token that hosts join with for a time.
	NewToken func(ctx context.Context, life time.Duration) (trust.Token, error)
	// PluginName is the name of the managed plugin that this process is; empty for a binary.
	PluginName func(ctx context.Context) string
	// Rotate begins the replacement of the cluster's authority.
	Rotate func(ctx context.Context) error
	// Keys rotates this host's key of encrypted networks.
	Keys Keys
	// Profiles has the socket offer what net/http/pprof does, below /debug/pprof/.
	Profiles bool
	// Recent has the last lines of the log; nil: it has none.
	Recent *Recent
	// FaultPoints has the socket answer below faults.Path; nil: it does not.
	FaultPoints *faults.Points
	Log         *logrus.Entry
}

type nothing struct{}

// hostName is the request of a release.
type hostName struct {
	Host string
	// Force cuts off a host that lives.
	Force bool
}

// networkName is the request of a removal; an ID will do.
type networkName struct {
	Network string
}

// question is the request of a look-up.
type question struct {
	Name, From string
}

// Released is what "causeway hosts rm" did.
type Released struct {
	Endpoints int
	// Held says that the host held the store, and so the key of the cluster's authority.
	Held bool
}

const (
	statusPath  = "/Agent.Status"
	releasePath = "/Agent.ReleaseHost"
	removePath  = "/Agent.RemoveNetwork"
	resolvePath = "/Agent.Resolve"
	backupPath  = "/Agent.Backup"
)

func (c Config) removeHost(ctx context.Context, request hostName) (*Released, error) {
	key, err := hostKey(ctx, c.Store, request.Host)
	if err != nil {
		return nil, err
	}
	var roles map[string]string
	if c.Roles != nil {
		if roles, err = c.Roles(ctx); err != nil {
			return nil, err
		}
	}
	endpoints, err := records.RemoveHost(ctx, c.Store, key, request.Force)
	return &Released{Endpoints: endpoints, Held: roles[key] != ""}, err
}

// NewServer makes the server of the agent's socket.
func NewServer(config Config) *plugin.Server {
	server := plugin.NewServer(config.Log)
	plugin.Handle(server, statusPath, func(ctx context.Context, _ *nothing) (*Status, error) {
		ctx = kvstore.FailFast(ctx)
		s := status(ctx, config.Store, config.Host, config.Faults())
		drops, err := config.PortDrops(ctx)
		if err != nil {
			s.Troubles = append(s.Troubles, "what was dropped at containers' ports cannot be read: "+err.Error())
		}
		s.addPortDrops(drops)
		if config.Roles != nil && s.Store == "" {
			s.addRoles(config.Roles(ctx))
		}
		if config.Drops != nil {
			s.addDrops(config.Drops())
		}
		return &s, nil
	})
	plugin.Handle(server, releasePath, func(ctx context.Context, request *hostName) (*Released, error) {
		if request.Host == "" {
			return nil, errors.New("the request names no host")
		}
		return config.removeHost(ctx, *request)
	})
	plugin.Handle(server, removePath, func(ctx context.Context, request *networkName) (*nothing, error) {
		if request.Network == "" {
			return nil, errors.New("the request names no network")
		}
		return &nothing{}, records.Records{Store: config.Store, Host: config.Host.Name}.DeleteNetwork(ctx, request.Network)
	})
	plugin.Handle(server, resolvePath, func(_ context.Context, request *question) (*names.Resolution, error) {
		if request.Name == "" {
			return nil, errors.New("the request has no name")
		}
		r, err := config.Resolve(request.Name, request.From)
		return &r, err
	})
	plugin.Stream(server, backupPath, config.Backup)
	handleTokens(server, config)
	handleReport(server, config)
	handleFollow(server, config)
	handleTraffic(server, config)
	handleDoctor(server, config)
	handleTrace(server, config)
	handleKeys(server, config)
	if config.FaultPoints != nil {
		server.HandleHTTP(faults.Path, config.FaultPoints.ServeHTTP)
	}
	if config.Profiles {
		server.HandleHTTP("/debug/pprof/", pprof.Index)
		server.HandleHTTP("/debug/pprof/cmdline", pprof.Cmdline)
		server.HandleHTTP("/debug/pprof/profile", pprof.Profile)
		server.HandleHTTP("/debug/pprof/symbol", pprof.Symbol)
		server.HandleHTTP("/debug/pprof/trace", pprof.Trace)
	}
	return server
}

// hostKey finds the key of the host that is shown as name, else takes name for
// the key.
func hostKey(ctx context.Context, store kvstore.Store, name string) (string, error) {
	r := newReader(store)
	for key, host := range all[fabric.Host](ctx, r, records.HostsPrefix) {
		if host.Shown() == name {
			return key, nil
		}
	}
	return name, r.err
}

// Client asks the agent at a socket.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client; nothing is opened before the first request.
func NewClient(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{
		Timeout: 30 * time.Second,
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}},
	}}
}

// Status asks for the cluster as the agent's host sees it.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c, statusPath, nothing{})
}

// RemoveHost releases all that a dead host had, and revokes its certificates. With
// force a host that lives is cut off.
func (c *Client) RemoveHost(ctx context.Context, host string, force bool) (Released, error) {
	return ask[Released](ctx, c, releasePath, hostName{Host: host, Force: force})
}

// RemoveNetwork deletes the records of a network that no engine will remove.
func (c *Client) RemoveNetwork(ctx context.Context, network string) error {
	_, err := ask[nothing](ctx, c, removePath, networkName{Network: network})
	return err
}

// Resolve asks what the container from would be told about name; with an empty
// from, on all networks of the agent's host.
func (c *Client) Resolve(ctx context.Context, name, from string) (names.Resolution, error) {
	return ask[names.Resolution](ctx, c, resolvePath, question{Name: name, From: from})
}

// Backup writes a snapshot of the store to w.
func (c *Client) Backup(ctx context.Context, w io.Writer) error { return c.stream(ctx, backupPath, w) }

// stream writes what the agent answers to w, however long it takes.
func (c *Client) stream(ctx context.Context, path string, w io.Writer) error {
	body, err := c.unbounded().post(ctx, path, nothing{}) // a large store takes its time
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("the agent at %s broke off: %w", c.socket, err)
	}
	return nil
}

// unbounded is the client without a time limit.
func (c *Client) unbounded() *Client {
	unbounded := *c.http
	unbounded.Timeout = 0
	return &Client{socket: c.socket, http: &unbounded}
}

func ask[Resp any](ctx context.Context, c *Client, path string, request any) (Resp, error) {
	var value Resp
	body, err := c.post(ctx, path, request)
	if err != nil {
		return value, err
	}
	defer body.Close()
	text, err := io.ReadAll(body)
	if err != nil {
		return value, fmt.Errorf("the agent at %s: %w", c.socket, err)
	}
	return value, json.Unmarshal(text, &value)
}

// post sends a request, and gives the answer's body or the agent's error.
func (c *Client) post(ctx context.Context, path string, request any) (io.ReadCloser, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(post)
	if err != nil {
		return nil, fmt.Errorf("the agent at %s does not answer (is causeway running, and are you root?): %w", c.socket, errors.Unwrap(err))
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	var answer struct {
		Err string
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || json.Unmarshal(text, &answer) != nil || answer.Err == "" {
		return nil, fmt.Errorf("the agent at %s answers %s", c.socket, response.Status)
	}
	return nil, errors.New(answer.Err)
}
