package main

import (
	"errors"
	"io"
	"testing"
)

// A script must not take a mistake in the command for a finding, or a lost packet.
func TestThoseWhoCannotLook(t *testing.T) {
	for _, args := range [][]string{
		{"doctor", "h1"}, {"doctor", "--everywhere"}, {"doctor", "--agent-socket", t.TempDir() + "/none"},
		{"trace", "web"}, {"trace", "web", "db", "--port=65536"}, {"trace", "web", "db", "--agent-socket", t.TempDir() + "/none"},
	} {
		root := rootCommand()
		root.SetArgs(args)
		root.SetOut(io.Discard)
		exit := new(exitError)
		if err := root.ExecuteContext(t.Context()); !errors.As(err, &exit) || exit.status != exitNoLook || exit.Error() == "" {
			t.Errorf("%q ends with %v", args, err)
		}
	}
}
