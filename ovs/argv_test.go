package ovs

import (
	"context"
	"io"
	"strings"
)

// recording notes each command before next runs it.
func recording(next Exec, commands *[]string) Exec {
	return func(ctx context.Context, stdin io.Reader, command string, args ...string) ([]byte, error) {
		*commands = append(*commands, command+" "+strings.Join(args, " "))
		return next(ctx, stdin, command, args...)
	}
}
