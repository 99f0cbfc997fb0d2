package ui

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/internal/browser"
	"github.com/causeway-net/causeway/internal/talk"
	"github.com/causeway-net/causeway/records"
)

// picture is where a screenshot goes: CAUSEWAY_SCREENSHOTS is a folder to keep them in.
func picture(t *testing.T, name string) string {
	folder := os.Getenv("CAUSEWAY_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	return filepath.Join(folder, name+".png")
}

// opened is a page of a made-up cluster in a real browser.
func opened(t *testing.T, s *source, hosts, networks, containers int) *browser.Page {
	t.Helper()
	b := browser.Start(t)
	url := serve(t, s)
	s.cluster(t, hosts, networks, containers)
	page := b.Open(url)
	page.Size(1280, 800)
	page.Until(fmt.Sprintf(`document.querySelectorAll(".card").length === %d && document.querySelector("#state").textContent === "live"`, hosts))
	page.Until(fmt.Sprintf(`document.querySelector("#tabs").innerText.includes("tunnels %d")`, hosts*(hosts-1)))
	page.Until(fmt.Sprintf(`document.querySelector("#tabs").innerText.includes("containers %d")`, containers))
	return page
}

func visit(page *browser.Page, view, until string) {
	browser.Eval[any](page, fmt.Sprintf("location.hash = %q", view))
	page.Until(until)
}

// 100 hosts and 2,000 containers are read in groups and by search, and followed.
func TestLargeClusterInABrowser(t *testing.T) {
	s := &source{changes: make(chan agent.Change), diagnosis: mesh(100)}
	const web = "000000000001"
	one, nine := fmt.Sprintf("%064x", 1), fmt.Sprintf("%064x", 9)
	s.talk = []talk.Conversation{
		{Network: web, Endpoint: one, Peer: netip.MustParseAddr("10.100.0.3"), Sent: talk.Rate{Bytes: 2e6, Packets: 1500}, Received: talk.Rate{Bytes: 1e5, Packets: 800}},
		{Network: web, Endpoint: one, Peer: netip.MustParseAddr("192.0.2.1"), Sent: talk.Rate{Bytes: 1000, Packets: 10}},
	}
	s.diagnosis.Talk = []talk.Conversation{ // the first one's other end, as its host saw it
		{Network: web, Endpoint: nine, Peer: netip.MustParseAddr("10.100.0.2"), Sent: talk.Rate{Bytes: 9e4, Packets: 700}, Received: talk.Rate{Bytes: 1.9e6, Packets: 1400}},
	}
	page := opened(t, s, 100, 8, 2000)
	page.Screenshot(picture(t, "large-hosts"))
	visit(page, "#tunnels", `document.querySelectorAll(".dense .cell").length === 10000 && document.querySelectorAll("td .problem").length === 50`)
	page.Screenshot(picture(t, "large-tunnels"))
	rows := func(want ...string) string {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`JSON.stringify([...document.querySelectorAll("tbody tr")].slice(0, %d).map((row) => row.innerText.replace(/\s+/g, " "))) === %q`, len(want), text)
	}
	all := []string{"web-1 on host1 web-9 on host9 web 16 Mbit/s 1500", "web-9 on host9 web-1 on host1 web 800 kbit/s 800", "web-1 on host1 192.0.2.1 web 8.0 kbit/s 10"}
	visit(page, "#talk", rows(all...)+` && document.querySelectorAll("tbody tr").length === 3`)
	page.Screenshot(picture(t, "large-traffic"))
	visit(page, "#container/"+web+"/"+nine, rows("web-1 on host1 web-9 on host9 16 Mbit/s 1500", "web-9 on host9 web-1 on host1 800 kbit/s 800")+` && document.querySelectorAll("tbody tr").length === 2`)
	visit(page, "#findings", `document.querySelectorAll(".findings li").length === 2`)
	visit(page, "#host/host3", `document.querySelectorAll("tbody tr").length === 20`)
	visit(page, "#containers", `document.querySelectorAll("details").length === 100 && document.querySelectorAll("tbody tr").length === 0`)
	page.Screenshot(picture(t, "large-containers"))
	browser.Eval[any](page, `document.querySelector("details summary").click()`)
	page.Until(`document.querySelectorAll("tbody tr").length === 20`)
	visit(page, "#network/000000000002", `document.querySelectorAll(".cell.used").length > 200`)
	page.Screenshot(picture(t, "large-network"))

	page.Press("/")
	page.Type("shop-1234")
	page.Until(`document.querySelectorAll(".results a").length === 1 && document.querySelector(".results a").innerText.includes("on host34")`)

	visit(page, "#networks", `document.querySelectorAll("tbody tr").length === 8`)
	began := time.Now()
	s.changes <- agent.Change{Prefix: records.NetworksPrefix, Gone: []string{"000000000008"}}
	page.Until(`document.querySelectorAll("tbody tr").length === 7`)
	t.Logf("a change is seen after %s", time.Since(began))
	page.Until(`document.querySelector("tbody tr:last-child td:last-child").textContent.includes("Mbit/s")`)
	visit(page, "#host/host1", `[...document.querySelectorAll("tbody tr")].some((row) => /^web-1\b.*Mbit\/s.*0 bit\/s/.test(row.innerText.replaceAll("\n", " ")))`)
}

// All is reached by the keyboard.
func TestKeyboardInABrowser(t *testing.T) {
	page := opened(t, &source{changes: make(chan agent.Change), diagnosis: mesh(12)}, 12, 3, 60)
	focus := func() string {
		return browser.Eval[string](page, `document.activeElement.innerText || document.activeElement.id`)
	}
	for i, want := range []string{"To the content", "search", "hosts 12", "networks 3", "containers 60", "traffic 0", "tunnels 132", "findings"} {
		page.Press("Tab")
		if got := focus(); !strings.HasPrefix(got, want) {
			t.Errorf("Tab %d leads to %q, want %q", i+1, got, want)
		}
	}
	page.Press("/")
	page.Type("web-1")
	page.Until(`document.querySelector(".results a strong")?.textContent === "web-1"`)
	page.Press("ArrowDown")
	page.Press("ArrowDown")
	page.Press("ArrowUp")
	page.Until(`document.activeElement === document.querySelector(".results a")`)
	page.Press("Enter")
	page.Until(`document.querySelector("h2")?.textContent === "web-1" && document.querySelector("#search").value === ""`)
	page.Press("Escape")
	page.Until(`location.hash === "#containers"`)

	visit(page, "#network/000000000001", `document.querySelector(".grid")`)
	browser.Eval[any](page, `document.querySelector(".grid").focus()`)
	for range 2 {
		page.Press("ArrowRight")
	}
	page.Until(`document.querySelector(".told").textContent === "10.100.0.2: web-1 on host1"`)
	page.Press("ArrowDown")
	page.Press("ArrowUp")
	page.Until(`document.querySelector(".told").textContent.startsWith("10.100.0.2:")`)
	page.Press("Enter")
	page.Until(`document.querySelector("h2").textContent === "web-1"`)

	page.Press("/")
	page.Type("10.100.3.9")
	page.Until(`document.querySelector(".results")?.innerText.includes("of web: free")`)
	page.Press("Escape")
	page.Until(`document.querySelector("#search").value === "" && document.activeElement.id === "search"`)
}

// No view is wider than a small screen, and text is read on its ground in the dark and the
// light (WCAG 2.1, 1.4.3).
func TestLooksInABrowser(t *testing.T) {
	s := &source{changes: make(chan agent.Change), diagnosis: mesh(12), deaf: true}
	page := opened(t, s, 12, 3, 60)
	page.Size(1000, 480)
	page.Screenshot(picture(t, "hosts"))
	visit(page, "#tunnels", `document.querySelector(".matrix")`)
	page.Screenshot(picture(t, "tunnels"))
	visit(page, "#network/000000000001", `document.querySelector(".grid")`)
	page.Screenshot(picture(t, "network"))
	visit(page, "#talk", `document.querySelector(".gone").textContent === "host1 does not measure: it is deaf"`)
	for _, view := range []string{"hosts", "networks", "containers", "talk", "tunnels", "findings", "host/host1", "network/000000000001"} {
		visit(page, "#"+view, fmt.Sprintf("document.title === %q", strings.Replace(view, "/", " ", 1)+" · causeway"))
		for _, scheme := range []string{"light", "dark"} {
			page.Scheme(scheme)
			if faint := browser.Eval[[]string](page, faint); len(faint) > 0 {
				t.Errorf("%s, %s: hard to read are %q", view, scheme, faint)
			}
		}
		page.Size(360, 640)
		if got := browser.Eval[int](page, "document.documentElement.scrollWidth"); got > 360 {
			t.Errorf("%s is %d pixels wide on a screen of 360", view, got)
		}
	}
	page.Screenshot(picture(t, "small"))
}

// faint lists texts whose contrast to what they stand on is below 4.5.
const faint = `(() => {
	const channels = (color) => color.match(/[\d.]+/g).map(Number);
	const light = (color) => channels(color).slice(0, 3).map((c) => c / 255).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
		.reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
	const ground = (it) => { for (; it; it = it.parentElement) { const color = getComputedStyle(it).backgroundColor, [, , , a = 1] = channels(color); if (a > 0) return color; } return "rgb(255, 255, 255)"; };
	return [...document.querySelectorAll("body *")].filter((it) => [...it.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).filter((it) => {
		const [a, b] = [light(getComputedStyle(it).color), light(ground(it))].sort((a, b) => b - a);
		return (a + .05) / (b + .05) < 4.5;
	}).map((it) => it.className + ": " + it.textContent.slice(0, 40));
})()`
