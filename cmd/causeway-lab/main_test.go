package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain is also the program itself, for the tests to run.
func TestMain(m *testing.M) {
	if os.Getenv("CAUSEWAY_LAB_TEST_MAIN") != "" {
		main()
		return
	}
	m.Run()
}

type result struct {
	Stdout, Stderr string
	Code           int
}

// labCommand runs the program on a lab of this test alone.
func labCommand(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CAUSEWAY_LAB_TEST_MAIN=1", fmt.Sprint("CAUSEWAY_LAB=cmd-", os.Getpid()))
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

func TestMistakes(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	notUp := fmt.Sprintf("lab cmd-%d: not up: causeway-lab up brings it up", os.Getpid())
	for line, want := range map[string]string{
		"list":                            notUp,
		"exec h1 docker ps":               notUp,
		"logs h1":                         notUp,
		"down":                            notUp,
		"exec h1":                         "requires at least 2 arg(s), only received 1",
		"up --engine 1.0":                 `engine "1.0": there are 20.10, 26.1, 28.5`,
		"up --hosts 0 --no-causeway":      "--hosts is 0: a lab has at least one",
		"up --store zk":                   `store "zk": it must be embedded or etcd`,
		"up --causeway /nowhere/causeway": "no causeway at /nowhere/causeway: make build makes it",
		"--name A list":                   `"A" is not the name of a lab`,
	} {
		want := result{"", "causeway-lab: " + want + "\n", 1}
		if diff := cmp.Diff(want, labCommand(t, "", strings.Fields(line)...)); diff != "" {
			t.Errorf("%s:\n%s", line, diff)
		}
	}
}

func TestUpExecDown(t *testing.T) {
	if up := labCommand(t, "", "up", "--hosts", "1", "--no-causeway"); up.Code != 0 {
		if strings.Contains(up.Stderr, "needs") {
			t.Skip(up.Stderr)
		}
		t.Fatal(up.Stderr)
	}
	t.Cleanup(func() {
		if got := labCommand(t, "", "down"); got.Code != 0 || got.Stderr != "" {
			t.Error(got)
		}
	})
	t.Run("streams and exit code", func(t *testing.T) {
		got := labCommand(t, "through", "exec", "h1", "sh", "-c", "cat; hostname; echo oops >&2; exit 7")
		if diff := cmp.Diff(result{"throughh1\n", "oops\n", 7}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("flags belong to the command", func(t *testing.T) {
		got := labCommand(t, "", "exec", "h1", "docker", "run", "--rm", "--name=box", "busybox", "echo", "-n", "--help")
		if diff := cmp.Diff(result{"--help", "", 0}, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("no such machine", func(t *testing.T) {
		got := labCommand(t, "", "exec", "h2", "true")
		if got.Code != 1 || !strings.Contains(got.Stderr, `has no machine "h2": there are switch, router, outside, plain, h1`) {
			t.Error(got)
		}
	})
	t.Run("list", func(t *testing.T) {
		got := labCommand(t, "", "list")
		if !strings.Contains(got.Stdout, "10.99.0.1, fd99::1") || !strings.Contains(got.Stdout, "28.5") {
			t.Error(got)
		}
	})
	t.Run("logs", func(t *testing.T) {
		if got := labCommand(t, "", "logs", "h1", "--docker"); !strings.Contains(got.Stdout, "Daemon has completed initialization") {
			t.Error(got)
		}
		if got := labCommand(t, "", "logs", "h1"); got.Stderr != "causeway-lab: h1 runs no causeway: --docker prints what Docker wrote\n" {
			t.Error(got)
		}
	})
}
