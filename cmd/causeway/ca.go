package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/records"
)

// caCommand is for the authority of a closed cluster.
func caCommand() *cobra.Command {
	var socket string
	rotate := &cobra.Command{
		Use: "rotate", Short: "Replace the cluster's authority, and all certificates with it", Args: cobra.NoArgs,
		Long: "Replace the cluster's authority by a new one, on a host that holds the store. The hosts come to believe the\n" +
			"new one first, then get certificates of it, then forget the old one; the store is served all the time where\n" +
			"three hosts or more hold it. Interrupted, it goes on by itself. Tokens from before are worthless after it.",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			client := agent.NewClient(socket)
			if err := client.RotateAuthority(command.Context()); err != nil {
				return printableError(err)
			}
			return followRotation(command.Context(), client, command.OutOrStdout())
		},
	}
	agentFlag(rotate, &socket)
	command := &cobra.Command{Use: "ca", Short: "Look after the cluster's authority", Args: cobra.NoArgs}
	command.AddCommand(rotate)
	return command
}

// followRotation prints the steps until the last one is done.
func followRotation(ctx context.Context, client *agent.Client, w io.Writer) error {
	said := ""
	for {
		text := "the store does not answer now"
		rotation, err := client.Rotation(ctx)
		switch {
		case err != nil: // this host's member of the store is being started again
		case rotation.Step == records.StepDone:
			_, err := fmt.Fprintln(w, "the authority is replaced")
			return err
		default:
			text = fmt.Sprintf("%s: waiting for %s", rotation.Step, strings.Join(rotation.Waits, ", "))
		}
		if text != said {
			fmt.Fprintln(w, printable(text))
			said = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
