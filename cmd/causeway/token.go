package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
)

// tokenCommand makes, lists and deletes the tokens that hosts join with.
func tokenCommand() *cobra.Command {
	var socket string
	var ttl time.Duration
	var quiet bool
	command := &cobra.Command{
		Use: "token", Short: "Make a token that lets other hosts join the cluster", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			token, err := agent.NewClient(socket).NewToken(command.Context(), ttl)
			if err != nil {
				return err
			}
			if quiet {
				_, err = fmt.Fprintln(command.OutOrStdout(), token.Token)
				return err
			}
			return printToken(command.OutOrStdout(), token, ttl)
		},
	}
	command.Flags().DurationVar(&ttl, "ttl", 24*time.Hour, "`time` after which the token lets nobody in any more")
	command.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the token alone")
	agentFlag(command, &socket)
	command.AddCommand(listTokensCommand(), acting("rm ID", "Make a token worthless",
		func(ctx context.Context, client *agent.Client, id string) (string, error) {
			return "token " + id + " is deleted", client.DeleteToken(ctx, id)
		}))
	return command
}

func printToken(w io.Writer, token agent.NewToken, ttl time.Duration) error {
	plugin, note := token.Plugin, ""
	if plugin == "" { // this host runs the binary
		plugin, note = "PLUGIN", "PLUGIN is the managed plugin's name in your registry. "
	}
	_, err := fmt.Fprintf(w, `On each other host, one of these, within %v:

    docker plugin install %[2]s CAUSEWAY_JOIN=%[3]s
    causeway serve --join %[3]s

%[4]s"causeway token rm %[5]s" takes the token back.
`, ttl, plugin, token.Token, note, token.ID)
	return err
}

func listTokensCommand() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use: "ls", Short: "List the tokens", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			tokens, err := agent.NewClient(socket).Tokens(command.Context())
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(command.OutOrStdout(), 0, 0, 3, ' ', 0)
			row(table, "ID", "MADE ON", "EXPIRES")
			for _, id := range slices.Sorted(maps.Keys(tokens)) {
				expires := tokens[id].Expires.Local().Format(time.DateTime)
				if time.Now().After(tokens[id].Expires) {
					expires += " (expired)"
				}
				row(table, id, tokens[id].By, expires)
			}
			return table.Flush()
		},
	}
	agentFlag(command, &socket)
	return command
}
