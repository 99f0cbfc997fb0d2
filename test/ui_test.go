package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/browser"
	"github.com/causeway-net/causeway/lab"
)

// TestUI looks at two hosts through the page, in a real browser.
func TestUI(t *testing.T) {
	browser.Path(t) // before a lab is brought up for nothing
	c := up(t, lab.Options{Hosts: 2})
	b := browser.Start(t)
	c.network("shown", "--subnet=192.168.88.0/24")
	one, two := c.host(1).run("web", "--net=shown"), c.host(2).run("db", "--net=shown")
	one.pings(two.addr("shown"))
	if _, err := c.host(1).try("causeway", "ui", "--listen=0.0.0.0:9469"); err == nil || !strings.Contains(err.Error(), "it must be a loopback address") {
		t.Errorf("a page that others reach: %v", err)
	}
	page := b.Open(c.servePage(1))
	page.Size(1000, 700)
	page.Until(`["h1", "h2"].every((name) => document.querySelector(".cards")?.innerText.includes(name)) && document.querySelector("#state").textContent === "live"`)
	c.shot(page, "ui-hosts")

	page.Press("/")
	page.Type("db")
	page.Until(`document.querySelector(".results a strong")?.textContent === "db"`)
	page.Press("Enter")
	page.Until(fmt.Sprintf(`document.querySelector("h2")?.textContent === "db" && document.querySelector("main").innerText.includes(%q)`, two.addr("shown")))

	browser.Eval[any](page, `[...document.querySelectorAll("dd a")].find((a) => a.textContent === "shown").click()`)
	page.Until(`document.querySelectorAll(".grid .used").length === 2 && document.querySelectorAll(".grid .gateway").length === 1`)
	c.shot(page, "ui-network")

	followsTunnel(c, page)
	followsRate(c, page, one, two)
	followsTalk(c, page, one, two)

	c.host(2).remove("db")
	// Addresses and containers are watched apart: the page has them in either order.
	page.Until(`document.querySelectorAll(".grid .used").length === 1 && document.querySelectorAll(".grid .resting").length === 3 &&
		![...document.querySelectorAll("td a")].some((it) => it.textContent === "db")`)

	began := time.Now()
	if err := c.host(1).Causeway.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("causeway waits for the page: it ends after %s", took)
	}
	page.Until(`document.querySelector("#state").textContent.startsWith("what you see may be old: ") && document.querySelectorAll(".grid .used").length === 1`)
	if err := c.host(1).Causeway.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	page.Until(`document.querySelector("#state").textContent === "live"`)
}

// followsRate sees that a container sends.
func followsRate(c *cluster, page *browser.Page, from, to container) {
	c.Helper()
	at := browser.Eval[string](page, "location.hash")
	browser.Eval[any](page, `location.hash = "#host/h1"`)
	page.Until(`[...document.querySelectorAll("td a")].some((it) => it.textContent === "web")`)
	from.must("ping", "-c", "30", "-i", "0.1", "-s", "1400", "-q", to.addr("shown"))
	page.Until(`/kbit\/s\s+[\d.]+ kbit\/s/.test(document.querySelector("main").innerText)`)
	browser.Eval[any](page, fmt.Sprintf("location.hash = %q", at))
}

// followsTalk sees who talks to whom: this host's containers, and with a look of doctor the
// other host's.
func followsTalk(c *cluster, page *browser.Page, from, to container) {
	c.Helper()
	at := browser.Eval[string](page, "location.hash")
	browser.Eval[any](page, `location.hash = "#talk"`)
	other := c.host(2).run("probe", "--net=shown")
	third := c.host(2).run("sink", "--net=shown")
	for _, pair := range [][2]container{{from, to}, {other, third}} {
		pair[0].docker("exec", "-d", pair[0].name, "ping", "-q", "-i", "0.05", "-s", "1400", "-w", "60", pair[1].addr("shown"))
	}
	for _, row := range []string{"web on h1 db on h2 shown", "db on h2 web on h1 shown", "probe on h2 sink on h2 shown", "sink on h2 probe on h2 shown"} {
		page.Until(fmt.Sprintf(`[...document.querySelectorAll("tbody tr")].some((it) => it.innerText.replace(/\s+/g, " ").startsWith(%q + " ") && it.innerText.includes("kbit/s"))`, row))
	}
	c.shot(page, "ui-traffic")
	c.host(2).remove("probe")
	c.host(2).remove("sink")
	browser.Eval[any](page, fmt.Sprintf("location.hash = %q", at))
}

// followsTunnel sees the tunnels' round trips, and one that breaks with its finding.
func followsTunnel(c *cluster, page *browser.Page) {
	c.Helper()
	at := browser.Eval[string](page, "location.hash")
	browser.Eval[any](page, `location.hash = "#tunnels"`)
	const measured = `document.querySelectorAll(".matrix td:is(.rtt1, .rtt2, .rtt3, .rtt4, .lossy)").length === 2 && !document.querySelector(".matrix .problem")`
	page.Until(measured)
	c.shot(page, "ui-tunnels")
	open := c.wall("udp dport 4789")
	page.Until(`[...document.querySelectorAll("td .problem")].some((it) => it.innerText.includes("Nothing comes back through the tunnel from host h2."))`)
	c.shot(page, "ui-problem")
	open()
	page.Until(measured)
	browser.Eval[any](page, fmt.Sprintf("location.hash = %q", at))
}

// servePage runs causeway ui on a host, and gives the address at which it is reached from
// here, as through ssh -L.
func (c *cluster) servePage(n int) string {
	c.Helper()
	const socket = "/run/causeway-ui.sock"
	h := c.host(n)
	ctx, stop := context.WithCancel(context.WithoutCancel(c.Context()))
	command := h.Command(ctx, "causeway", "ui", "--listen=unix:"+socket, "--doctor-every=1s")
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	var said strings.Builder
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		stop()
		if err := command.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			c.Errorf("causeway ui ends with %v: %s", err, said.String())
		}
	})
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.Path(socket))
	}
	eventually(c.T, "the page is served", func() error {
		conn, err := dial(ctx, "", "")
		if err == nil {
			conn.Close()
		}
		return err
	})
	transport := &http.Transport{DialContext: dial}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", "page", r.In.Host
		},
		Transport: transport, ErrorHandler: func(http.ResponseWriter, *http.Request, error) {},
	})
	c.Cleanup(func() { proxy.CloseClientConnections(); proxy.Close(); transport.CloseIdleConnections() })
	return proxy.URL + "/"
}

// shot keeps a picture of the page in the folder of CAUSEWAY_SCREENSHOTS, if there is one.
func (c *cluster) shot(page *browser.Page, name string) {
	if folder := os.Getenv("CAUSEWAY_SCREENSHOTS"); folder != "" {
		page.Screenshot(filepath.Join(folder, name+".png"))
	}
}
