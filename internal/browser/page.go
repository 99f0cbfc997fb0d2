package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/causeway-net/causeway/internal/await"
)

// Page is one page of a Browser.
type Page struct {
	t       testing.TB
	wire    *wire
	session string
}

// Open opens url in a page of its own, until the test ends. A Browser has one.
func (b *Browser) Open(url string) *Page {
	b.t.Helper()
	p := &Page{t: b.t, wire: b.wire}
	b.wire.listen(p.hear)
	var target struct{ TargetID string }
	p.must("Target.createTarget", struct {
		URL string `json:"url"`
	}{"about:blank"}, &target)
	var session struct{ SessionID string }
	p.must("Target.attachToTarget", struct {
		TargetID string `json:"targetId"`
		Flatten  bool   `json:"flatten"`
	}{target.TargetID, true}, &session)
	p.session = session.SessionID
	b.t.Cleanup(func() { // before what serves the page
		b.wire.listen(nil)
		p.must("Page.navigate", struct {
			URL string `json:"url"`
		}{"about:blank"}, nil)
	})
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		p.must(domain+".enable", nil, nil)
	}
	p.must("Page.navigate", struct {
		URL string `json:"url"`
	}{url}, nil)
	return p
}

func (p *Page) must(method string, params, result any) {
	p.t.Helper()
	if err := p.wire.call(p.session, method, params, result); err != nil {
		p.t.Fatal(err)
	}
}

// hear fails the test where the page has an error.
func (p *Page) hear(m message) {
	var event struct {
		Entry struct {
			Level, Text, URL string
		}
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	if json.Unmarshal(m.Params, &event) != nil {
		return
	}
	switch {
	case m.Method == "Runtime.exceptionThrown":
		p.t.Errorf("the page throws: %s %s", event.ExceptionDetails.Text, event.ExceptionDetails.Exception.Description)
	case m.Method == "Log.entryAdded" && event.Entry.Level == "error":
		p.t.Errorf("the page's console: %s %s", event.Entry.Text, event.Entry.URL)
	}
}

// Eval gives what an expression of JavaScript is, or the promise that it is comes to.
func Eval[T any](p *Page, expression string) (value T) {
	p.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Exception struct{ Description string } }
	}
	p.must("Runtime.evaluate", struct {
		Expression    string `json:"expression"`
		ReturnByValue bool   `json:"returnByValue"`
		AwaitPromise  bool   `json:"awaitPromise"`
	}{expression, true, true}, &answer)
	if answer.ExceptionDetails != nil {
		p.t.Fatalf("%s: %s", expression, answer.ExceptionDetails.Exception.Description)
	}
	if len(answer.Result.Value) == 0 { // undefined
		return value
	}
	if err := json.Unmarshal(answer.Result.Value, &value); err != nil {
		p.t.Fatalf("%s is %s: %v", expression, answer.Result.Value, err)
	}
	return value
}

// Until waits until an expression is true.
func (p *Page) Until(condition string) {
	p.t.Helper()
	await.Within(p.t, time.Minute, condition, func() error {
		if !Eval[bool](p, "Boolean("+condition+")") {
			return fmt.Errorf("the page shows:\n%.2000s", Eval[string](p, "document.body?.innerText ?? ''"))
		}
		return nil
	})
}

// Press presses and releases a key, such as "Escape", "ArrowDown" or "/".
func (p *Page) Press(key string) {
	p.t.Helper()
	codes := map[string]int{"Escape": 27, "Enter": 13, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "ArrowLeft": 37, "ArrowRight": 39}
	type event struct {
		Type string `json:"type"`
		Key  string `json:"key"`
		Text string `json:"text,omitempty"`
		Code int    `json:"windowsVirtualKeyCode,omitempty"`
	}
	down := event{"keyDown", key, "", codes[key]}
	switch {
	case key == "Enter":
		down.Text = "\r"
	case len(key) == 1:
		down.Text = key
	}
	p.must("Input.dispatchKeyEvent", down, nil)
	p.must("Input.dispatchKeyEvent", event{"keyUp", key, "", codes[key]}, nil)
}

// Type enters text where the focus is.
func (p *Page) Type(text string) {
	p.t.Helper()
	p.must("Input.insertText", struct {
		Text string `json:"text"`
	}{text}, nil)
}

// Size makes the window so large, in pixels.
func (p *Page) Size(width, height int) {
	p.t.Helper()
	p.must("Emulation.setDeviceMetricsOverride", struct {
		Width  int     `json:"width"`
		Height int     `json:"height"`
		Scale  float64 `json:"deviceScaleFactor"`
		Mobile bool    `json:"mobile"`
	}{width, height, 1, false}, nil)
}

// Scheme has the user prefer dark or light.
func (p *Page) Scheme(scheme string) {
	p.t.Helper()
	type feature struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	p.must("Emulation.setEmulatedMedia", struct {
		Features []feature `json:"features"`
	}{[]feature{{"prefers-color-scheme", scheme}}}, nil)
}

// Screenshot writes what is seen into a file, as PNG.
func (p *Page) Screenshot(path string) {
	p.t.Helper()
	var picture struct{ Data []byte }
	p.must("Page.captureScreenshot", struct {
		Format string `json:"format"`
	}{"png"}, &picture)
	if err := os.WriteFile(path, picture.Data, 0o644); err != nil {
		p.t.Fatal(err)
	}
}
