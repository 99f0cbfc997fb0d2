package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
)

// statusCommands are those that ask the agent of this host.
func statusCommands() []*cobra.Command {
	networks := asking("networks", "List the networks of the cluster", cobra.NoArgs,
		func(w io.Writer, s agent.Status, _ []string) (any, error) {
			printNetworks(w, s.Networks)
			return s.Networks, nil
		})
	networks.AddCommand(acting("rm NAME|ID", "Remove a network that no engine will: its swarm or its hosts are gone",
		func(ctx context.Context, client *agent.Client, name string) (string, error) {
			return "network " + name + " is removed", client.RemoveNetwork(ctx, name)
		}))
	hosts := asking("hosts", "List the hosts of the cluster", cobra.NoArgs,
		func(w io.Writer, s agent.Status, _ []string) (any, error) {
			printHosts(w, s.Hosts)
			return s.Hosts, nil
		})
	hosts.AddCommand(acting("rm NAME", "Release the endpoints and addresses of a host that is gone",
		func(ctx context.Context, client *agent.Client, name string) (string, error) {
			released, err := client.ReleaseHost(ctx, name)
			return fmt.Sprintf("host %s is released, with %d endpoints", name, released.Endpoints), err
		}))
	endpoints := asking("endpoints [NETWORK]", "List the endpoints of the cluster, or of one network", cobra.MaximumNArgs(1),
		func(w io.Writer, s agent.Status, args []string) (any, error) {
			chosen, err := endpointsOf(s, args)
			printEndpoints(w, chosen)
			return chosen, err
		})
	status := asking("status", "Show the cluster as this host sees it, and what is wrong", cobra.NoArgs,
		func(w io.Writer, s agent.Status, _ []string) (any, error) { printStatus(w, s); return s, nil })
	return []*cobra.Command{status, networks, hosts, endpoints}
}

// asking makes a command that prints a part of the status: show writes it for
// people and returns it for --json.
func asking(use, short string, args cobra.PositionalArgs, show func(io.Writer, agent.Status, []string) (any, error)) *cobra.Command {
	var asJSON bool
	var socket string
	command := &cobra.Command{Use: use, Short: short, Args: args, RunE: func(command *cobra.Command, args []string) error {
		if err := readEnv(command.Flags()); err != nil {
			return err
		}
		s, err := agent.NewClient(socket).Status(command.Context())
		if err != nil {
			return err
		}
		if s.Store != "" && !strings.HasPrefix(use, "status") {
			return fmt.Errorf("%s", s.Store)
		}
		var text strings.Builder
		table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
		part, err := show(table, s, args)
		if err != nil {
			return err
		}
		if asJSON {
			encoder := json.NewEncoder(command.OutOrStdout())
			encoder.SetIndent("", "  ")
			return encoder.Encode(part)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		_, err = io.WriteString(command.OutOrStdout(), text.String())
		return err
	}}
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	agentFlag(command, &socket)
	return command
}

func agentFlag(command *cobra.Command, socket *string) {
	command.Flags().StringVar(socket, "agent-socket", defaultAgentSocket, "`path` of the agent's socket")
}

// acting makes a command that does something to the one thing that it names, and
// prints the sentence that do returns.
func acting(use, short string, do func(context.Context, *agent.Client, string) (string, error)) *cobra.Command {
	var socket string
	command := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(1), RunE: func(command *cobra.Command, args []string) error {
		if err := readEnv(command.Flags()); err != nil {
			return err
		}
		done, err := do(command.Context(), agent.NewClient(socket), args[0])
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(command.OutOrStdout(), done)
		return err
	}}
	agentFlag(command, &socket)
	return command
}

func printStatus(w io.Writer, s agent.Status) {
	store := "answers"
	if s.Store != "" {
		store = s.Store
	}
	fmt.Fprintf(w, "host:\t%s\nversion:\t%s\nstore:\t%s\n", s.Host, s.Version, store)
	if s.Store == "" {
		fmt.Fprintln(w)
		printHosts(w, s.Hosts)
		fmt.Fprintln(w)
		printNetworks(w, s.Networks)
	}
	fmt.Fprintln(w)
	if len(s.Troubles) == 0 {
		fmt.Fprintln(w, "no troubles")
		return
	}
	fmt.Fprintln(w, "troubles:")
	for _, trouble := range s.Troubles {
		fmt.Fprintln(w, "-", trouble)
	}
}

func printHosts(w io.Writer, hosts []agent.Host) {
	fmt.Fprintln(w, "HOST\tVTEP\tMTU\tENDPOINTS\tALIVE SINCE\tVERSION")
	for _, host := range hosts {
		alive := "not alive"
		if host.AliveSince != nil {
			alive = host.AliveSince.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", host.Name, host.VTEP, host.MTU, host.Endpoints, alive, host.Version)
	}
}

func printNetworks(w io.Writer, networks []agent.Network) {
	fmt.Fprintln(w, "NETWORK\tNAME\tMODE\tVNI\tSUBNET\tUSED\tFREE\tHOSTS")
	for _, network := range networks {
		for i, pool := range network.Pools {
			free := fmt.Sprint(pool.Free)
			if pool.Free < 0 {
				free = "plenty"
			}
			id, name, mode, vni, on := network.ID, network.Name, string(network.Mode), "-", strings.Join(network.Hosts, ",")
			if network.VNI != 0 {
				vni = fmt.Sprint(network.VNI)
			}
			if i > 0 { // a further subnet of the same network
				id, name, mode, vni, on = "", "", "", "", ""
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", id, name, mode, vni, pool.Prefix, pool.Used, free, on)
		}
	}
}

// endpointsOf picks those on the network that args name, by name or ID.
func endpointsOf(s agent.Status, args []string) ([]agent.Endpoint, error) {
	if len(args) == 0 {
		return s.Endpoints, nil
	}
	index := slices.IndexFunc(s.Networks, func(n agent.Network) bool { return n.Name == args[0] || n.ID == args[0] })
	if index < 0 {
		return nil, fmt.Errorf("the cluster has no network %s", args[0])
	}
	chosen := slices.DeleteFunc(s.Endpoints, func(e agent.Endpoint) bool { return e.Network != s.Networks[index].ID })
	return chosen, nil
}

func printEndpoints(w io.Writer, endpoints []agent.Endpoint) {
	fmt.Fprintln(w, "NETWORK\tHOST\tENDPOINT\tCONTAINER\tMAC\tADDRESSES")
	for _, endpoint := range endpoints {
		name := endpoint.Name
		if name == "" {
			name = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%.12s\t%s\t%s\t%s\n",
			endpoint.NetworkName, endpoint.Host, endpoint.ID, name, endpoint.MAC, joined(endpoint.Addrs))
	}
}

func joined(addresses []netip.Prefix) string {
	texts := make([]string, 0, len(addresses))
	for _, address := range addresses {
		texts = append(texts, address.String())
	}
	return strings.Join(texts, ",")
}
