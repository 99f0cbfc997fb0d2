package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/names"
)

// resolveCommand tells what a container would be told, and why.
func resolveCommand() *cobra.Command {
	var asJSON bool
	var socket, from string
	command := &cobra.Command{
		Use: "resolve NAME", Short: "Show what a container of this host is told about a name, and why", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			r, err := agent.NewClient(socket).Resolve(command.Context(), args[0], from)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(command.OutOrStdout(), r)
			}
			table := tabwriter.NewWriter(command.OutOrStdout(), 0, 0, 3, ' ', 0)
			printResolution(table, args[0], r)
			return table.Flush()
		},
	}
	command.Flags().StringVar(&from, "from", "", "`container` that asks, by name or endpoint ID; default: one on all networks of this host")
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	agentFlag(command, &socket)
	return command
}

func printResolution(w io.Writer, name string, r names.Resolution) {
	searched := "the networks " + strings.Join(r.Networks, ", ")
	if len(r.Networks) == 0 {
		searched = "no network: this host has no container whose names causeway serves"
	}
	if r.Docker {
		row(w, fmt.Sprintf("%s is not a name of the cluster; Docker's own resolver is asked", name))
		row(w, "searched: "+searched)
		return
	}
	row(w, "ADDRESSES", "NETWORK", "HOST", "NAMES")
	for _, match := range r.Matches {
		addresses := make([]string, 0, len(match.Addrs))
		for _, addr := range slices.SortedFunc(slices.Values(match.Addrs), netip.Addr.Compare) {
			addresses = append(addresses, addr.String())
		}
		row(w, strings.Join(addresses, ","), match.Network, match.Host, strings.Join(match.Names, ","))
	}
	row(w, "searched: "+searched)
}
