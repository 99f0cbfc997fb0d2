package ui

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/internal/browser"
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

// A large cluster in a real browser: 100 hosts and 2,000 containers.
func TestLargeClusterInABrowser(t *testing.T) {
	b := browser.Start(t)
	s := &source{changes: make(chan agent.Change), diagnosis: mesh(100)}
	url := serve(t, s)
	s.cluster(t, 100, 8, 2000)
	page := b.Open(url)
	page.Size(1280, 800)
	page.Until(`document.querySelectorAll(".card").length === 100 && document.querySelector("#state").textContent === "live"`)
	page.Screenshot(picture(t, "hosts"))

	browser.Eval[any](page, `location.hash = "#tunnels"`)
	began := time.Now()
	page.Until(`document.querySelectorAll(".dense .cell").length === 10000 && document.querySelectorAll("td .problem").length === 50`)
	t.Logf("tunnels %s", time.Since(began))
	page.Screenshot(picture(t, "tunnels"))
	t.Logf("tunnels %s", time.Since(began))
	browser.Eval[any](page, `location.hash = "#findings"`)
	page.Until(`document.querySelectorAll(".findings li").length === 2`)
	page.Screenshot(picture(t, "findings"))
	browser.Eval[any](page, `location.hash = "#host/host3"`)
	page.Until(`document.querySelector("h2").textContent.includes("host3")`)
	page.Screenshot(picture(t, "host"))

	page.Press("/")
	page.Type("shop-1234")
	page.Screenshot(picture(t, "search0"))
	page.Until(`document.querySelectorAll(".results a").length === 0 || document.querySelector(".results a").innerText.includes("shop")`)
	page.Screenshot(picture(t, "search"))
	page.Press("Escape")
	page.Until(`document.querySelector("#search").value === ""`)

	browser.Eval[any](page, `location.hash = "#network/000000000002"`)
	page.Until(`document.querySelectorAll(".cell.used").length > 100`)
	page.Screenshot(picture(t, "network"))
	browser.Eval[any](page, `location.hash = "#containers"`)
	page.Until(`document.querySelectorAll("details").length === 100`)
	page.Screenshot(picture(t, "containers"))
	browser.Eval[any](page, `location.hash = "#networks"`)
	page.Until(`document.querySelectorAll("tbody tr").length === 8`)
	page.Screenshot(picture(t, "networks"))
	began = time.Now()
	s.changes <- agent.Change{Prefix: records.NetworksPrefix, Gone: []string{"000000000008"}}
	page.Until(`document.querySelectorAll("tbody tr").length === 7`)
	t.Logf("a change is seen after %s", time.Since(began))
}
