package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/internal/talk"
)

func talkCommand() *cobra.Command {
	var asJSON bool
	var socket string
	command := &cobra.Command{
		Use: "talk", Short: "Show who this host's containers talk to, and how much", Args: cobra.NoArgs,
		Long: "Show who this host's containers talk to, and how much in a second: since it was asked last,\n" +
			"or within the next second. Broadcasts are not counted. The page of \"causeway ui\" shows all hosts'.",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			client := agent.NewClient(socket)
			all, err := client.Talk(command.Context())
			if err != nil {
				return printableError(err)
			}
			if asJSON {
				return printJSON(command.OutOrStdout(), all)
			}
			s, err := client.Status(command.Context())
			if err != nil {
				return printableError(err)
			}
			table := tabwriter.NewWriter(command.OutOrStdout(), 0, 0, 3, ' ', 0)
			printTalk(table, s, all)
			return table.Flush()
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	agentFlag(command, &socket)
	return command
}

func printTalk(w io.Writer, s agent.Status, all []talk.Conversation) {
	networks, names := make(map[string]string), make(map[string]string) // of containers by network, and endpoint or address
	for _, n := range s.Networks {
		networks[n.ID] = n.Name
	}
	for _, e := range s.Endpoints {
		name := cmp.Or(e.Name, fmt.Sprintf("%.12s", e.ID))
		names[e.Network+e.ID] = name
		for _, addr := range e.Addrs {
			names[e.Network+addr.Addr().String()] = name
		}
	}
	row(w, "NETWORK", "CONTAINER", "TALKS TO", "SENDS", "GETS", "PACKETS/S")
	for _, c := range all {
		row(w, cmp.Or(networks[c.Network], c.Network), cmp.Or(names[c.Network+c.Endpoint], c.Endpoint), cmp.Or(names[c.Network+c.Peer.String()], c.Peer.String()),
			bitRate(c.Sent.Bytes), bitRate(c.Received.Bytes), fmt.Sprintf("%.0f, %.0f", c.Sent.Packets, c.Received.Packets))
	}
}

// bitRate shows bytes a second as bits.
func bitRate(bytes float64) string {
	bits := bytes * 8
	for _, unit := range []string{"bit/s", "kbit/s", "Mbit/s"} {
		if bits < 1000 {
			return fmt.Sprintf("%.3g %s", bits, unit)
		}
		bits /= 1000
	}
	return fmt.Sprintf("%.3g Gbit/s", bits)
}
