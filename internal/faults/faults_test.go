package faults

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/causeway-net/causeway/kvstore"
)

// childEnv has the test's own program be the process that dies.
const childEnv = "FAULTPOINT_CHILD"

// committed is a store that says what reaches it.
type committed struct{ kvstore.Store }

func (committed) Commit(context.Context, kvstore.Txn) (int64, error) {
	println("committed")
	return 7, nil
}

func ask(p *Points, method, query string) string {
	answer := httptest.NewRecorder()
	p.ServeHTTP(answer, httptest.NewRequest(method, Path+query, nil))
	return answer.Body.String()
}

func TestMain(m *testing.M) {
	if at, child := os.LookupEnv(childEnv); child {
		p := New()
		ask(p, http.MethodPost, "?pass=2&at="+at)
		store := p.Store(committed{})
		for range 3 {
			_, _ = store.Commit(context.Background(), kvstore.Txn{})
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheProcessDiesAtTheStep(t *testing.T) {
	for at, want := range map[string]int{"background:+before+commit": 1, "background:+after+commit": 2} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), childEnv+"="+at)
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Errorf("%s: it ended with %v", at, err)
		}
		if got := strings.Count(string(out), "committed"); got != want {
			t.Errorf("%s: %d commits, want %d\n%s", at, got, want, out)
		}
	}
}

func TestAnotherProcessDiesAtTheStep(t *testing.T) {
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	p := New()
	ask(p, http.MethodPost, fmt.Sprintf("?at=a&pass=1&kill=%d", other.Process.Pid))
	p.Pass("a")
	var exit *exec.ExitError
	if err := other.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", err)
	}
	if got := ask(p, http.MethodPost, "?at=a&pass=1&kill=1"); !strings.Contains(got, "must be the ID of a process") {
		t.Errorf("kill=1 is answered %q", got)
	}
}

func TestPassesAreCounted(t *testing.T) {
	p := New()
	p.Pass("a")
	p.Pass("a")
	if got := strings.TrimSpace(ask(p, http.MethodGet, "")); got != `{"a":2}` {
		t.Errorf("got %s", got)
	}
	if got := ask(p, http.MethodPost, "?at=a&pass=0"); !strings.Contains(got, "must be a number") {
		t.Errorf("pass=0 is answered %q", got)
	}
	ask(p, http.MethodPost, "")
	if got := strings.TrimSpace(ask(p, http.MethodGet, "")); got != `{}` {
		t.Errorf("after a POST: %s", got)
	}
}
