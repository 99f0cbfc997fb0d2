package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
)

// rotateKeyCommand has this host make another key for encrypted networks.
func rotateKeyCommand() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use: "rotate-key", Short: "Replace this host's key of encrypted networks", Args: cobra.NoArgs,
		Long: "Replace this host's key of encrypted networks by a new one, without a packet lost. The other hosts are\n" +
			"told of the new key first, and let it in; then it is used, and the old one goes when nothing has come\n" +
			"or gone by it for three minutes. It is done by itself, too: see --wireguard-key-age of causeway serve.\n" +
			"Interrupted, it goes on by itself.",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			client := agent.NewClient(socket)
			before, err := client.KeyRotation(command.Context())
			if err == nil {
				err = client.RotateKey(command.Context())
			}
			if err != nil {
				return printableError(err)
			}
			return followKeyRotation(command.Context(), client, before.Key, command.OutOrStdout())
		},
	}
	agentFlag(command, &socket)
	return command
}

// followKeyRotation prints what is waited for until the new key is used.
func followKeyRotation(ctx context.Context, client *agent.Client, before string, w io.Writer) error {
	said := ""
	for {
		rotation, err := client.KeyRotation(ctx)
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
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}
