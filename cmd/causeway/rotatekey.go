package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/internal/pause"
)

// rotateKeyCommand has a host make another key for encrypted networks.
func rotateKeyCommand() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use: "rotate-key [HOST]", Short: "Replace a host's key of encrypted networks", Args: cobra.MaximumNArgs(1),
		Long: "Replace the key of encrypted networks of this host, or of the one that is named, without a packet lost.\n" +
			"The other hosts are told of the new key first, and let it in; then it is used, and the old one goes when\n" +
			"nothing has come or gone by it for three minutes. Interrupted, it goes on by itself. It is also done by\n" +
			"age: see --wireguard-key-age of causeway serve.",
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			client, host := agent.NewClient(socket), ""
			if len(args) > 0 {
				host = args[0]
			}
			before, err := client.KeyRotation(command.Context(), host)
			if err == nil {
				err = client.RotateKey(command.Context(), host)
			}
			if err != nil {
				return printableError(err)
			}
			return followKeyRotation(command.Context(), client, host, before.Key, command.OutOrStdout())
		},
	}
	agentFlag(command, &socket)
	return command
}

// followKeyRotation prints what is waited for until the new key is used.
func followKeyRotation(ctx context.Context, client *agent.Client, host, before string, w io.Writer) error {
	said := ""
	for {
		rotation, err := client.KeyRotation(ctx, host)
		if err != nil {
			return printableError(err)
		}
		text := "the other hosts are told of the new key"
		switch {
		case rotation.Key != before:
			_, err := fmt.Fprintln(w, "the new key is used; the old one goes when nothing has come by it for three minutes")
			return err
		case len(rotation.Waits) > 0:
			text = "waiting for " + strings.Join(rotation.Waits, ", ")
		}
		if text != said {
			fmt.Fprintln(w, printable(text))
			said = text
		}
		if err := pause.For(ctx, time.Second); err != nil {
			return err
		}
	}
}
