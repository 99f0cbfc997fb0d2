package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
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
			printNetworks(w, s)
			return s.Networks, nil
		})
	networks.AddCommand(acting("rm NAME|ID", "Delete a network whose swarm or hosts are gone",
		func(ctx context.Context, client *agent.Client, name string) (string, error) {
			return "network " + name + " is deleted", client.RemoveNetwork(ctx, name)
		}))
	hosts := asking("hosts", "List the hosts of the cluster", cobra.NoArgs,
		func(w io.Writer, s agent.Status, _ []string) (any, error) {
			printHosts(w, s)
			return s.Hosts, nil
		})
	var force bool
	remove := acting("rm NAME", "Release the endpoints and addresses of a host that is gone, and revoke its certificate",
		func(ctx context.Context, client *agent.Client, name string) (string, error) {
			released, err := client.RemoveHost(ctx, name, force)
			said := fmt.Sprintf("host %s is released, with %d endpoints", name, released.Endpoints)
			if released.Held {
				said += "\nIt held the store, and so the key of the cluster's authority: unless that is gone with its disk, run \"causeway ca rotate\"."
			}
			return said, err
		})
	remove.Flags().BoolVar(&force, "force", false, "cut off a host that is alive")
	hosts.AddCommand(remove, rotateKeyCommand())
	endpoints := asking("endpoints [NETWORK]", "List the endpoints of the cluster, or of one network", cobra.MaximumNArgs(1),
		func(w io.Writer, s agent.Status, args []string) (any, error) {
			chosen, err := endpointsOf(s, args)
			printEndpoints(w, s, chosen)
			return chosen, err
		})
	status := asking("status", "Show the cluster as this host sees it, and what is wrong", cobra.NoArgs,
		func(w io.Writer, s agent.Status, _ []string) (any, error) { printStatus(w, s); return s, nil })
	return []*cobra.Command{status, networks, hosts, endpoints, resolveCommand(), talkCommand(), doctorCommand(), traceCommand()}
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
			return printableError(err)
		}
		if s.Store != "" && !strings.HasPrefix(use, "status") {
			return errors.New(printable(s.Store))
		}
		var text strings.Builder
		table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
		part, err := show(table, s, args)
		if err != nil {
			return err
		}
		if asJSON {
			return printJSON(command.OutOrStdout(), part)
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

func printJSON(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
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
			return printableError(err)
		}
		_, err = fmt.Fprintln(command.OutOrStdout(), done)
		return err
	}}
	agentFlag(command, &socket)
	return command
}

// row prints one line of a table. Characters that a terminal acts on are
// escaped: names come from users of other hosts.
func row(w io.Writer, cells ...any) {
	texts := make([]string, 0, len(cells))
	for _, cell := range cells {
		texts = append(texts, printable(fmt.Sprint(cell)))
	}
	fmt.Fprintln(w, strings.Join(texts, "\t"))
}

// printable escapes what is not printable, as Go does in a string literal.
func printable(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return text
	}
	quoted := strconv.Quote(text)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// printableError is for errors of the agent, which have names in them.
func printableError(err error) error { return errors.New(printable(err.Error())) }

func printStatus(w io.Writer, s agent.Status) {
	row(w, "host:", s.Host)
	row(w, "version:", s.Version)
	row(w, "store:", cmp.Or(s.Store, "answers"))
	if s.Store == "" {
		fmt.Fprintln(w)
		printHosts(w, s)
		fmt.Fprintln(w)
		printNetworks(w, s)
	}
	printPortDrops(w, s.PortDrops)
	fmt.Fprintln(w)
	if len(s.Drops) > 0 {
		fmt.Fprintln(w, "dropped packets:")
		for _, drop := range s.Drops {
			row(w, fmt.Sprintf("- %d %s", drop.Packets, drop.Reason))
		}
		fmt.Fprintln(w)
	}
	if len(s.Troubles) == 0 {
		fmt.Fprintln(w, "no troubles")
		return
	}
	fmt.Fprintln(w, "troubles:")
	for _, trouble := range s.Troubles {
		row(w, "- "+trouble)
	}
}

// printPortDrops prints what containers of this host may not send, a line for each network.
func printPortDrops(w io.Writer, drops []agent.PortDrop) {
	lines := make(map[string][]string)
	for _, drop := range drops {
		network := cmp.Or(drop.NetworkName, "no network")
		lines[network] = append(lines[network], fmt.Sprintf("%d %s (%s)", drop.Frames, drop.Reason, cmp.Or(drop.Name, fmt.Sprintf("%.12s", drop.Endpoint))))
	}
	if len(lines) > 0 {
		fmt.Fprintln(w)
	}
	for _, network := range slices.Sorted(maps.Keys(lines)) {
		row(w, "drops on "+network+": "+strings.Join(lines[network], ", "))
	}
}

func printHosts(w io.Writer, s agent.Status) {
	row(w, "HOST", "VTEP", "MTU", "ENDPOINTS", "STORE", "ALIVE SINCE", "VERSION")
	for _, host := range s.Hosts {
		alive := "not alive"
		if host.AliveSince != nil {
			alive = host.AliveSince.Local().Format(time.DateTime)
		}
		row(w, host.Shown(), host.VTEP, host.MTU, host.Endpoints, cmp.Or(host.Role, "-"), alive, host.Version)
	}
}

func printNetworks(w io.Writer, s agent.Status) {
	row(w, "NETWORK", "NAME", "MODE", "VNI", "SUBNET", "USED", "FREE", "HOSTS")
	shown := shownNames(s)
	for _, network := range s.Networks {
		for i, pool := range network.Pools {
			free, vni := fmt.Sprint(pool.Free), "-"
			if pool.Free < 0 {
				free = "plenty"
			}
			if network.VNI != 0 {
				vni = fmt.Sprint(network.VNI)
			}
			if i > 0 { // a further subnet of the same network
				row(w, "", "", "", "", pool.Prefix, pool.Used, free, "")
				continue
			}
			row(w, network.ID, network.Name, network.Mode, vni, pool.Prefix, pool.Used, free, strings.Join(shown.all(network.Hosts), ","))
		}
	}
}

// hostNames are what hosts are shown as, by their key in the records.
type hostNames map[string]string

func shownNames(s agent.Status) hostNames {
	shown := make(hostNames, len(s.Hosts))
	for _, host := range s.Hosts {
		shown[host.Name] = host.Shown()
	}
	return shown
}

func (n hostNames) of(host string) string { return cmp.Or(n[host], host) }

func (n hostNames) all(hosts []string) []string {
	shown := make([]string, 0, len(hosts))
	for _, host := range hosts {
		shown = append(shown, n.of(host))
	}
	return shown
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

func printEndpoints(w io.Writer, s agent.Status, endpoints []agent.Endpoint) {
	row(w, "NETWORK", "HOST", "ENDPOINT", "MAC", "ADDRESSES", "NAMES")
	shown := shownNames(s)
	for _, endpoint := range endpoints {
		row(w, endpoint.NetworkName, shown.of(endpoint.Host), fmt.Sprintf("%.12s", endpoint.ID),
			endpoint.MAC, joined(endpoint.Addrs), cmp.Or(strings.Join(endpoint.Names, ","), endpoint.Name, "-"))
	}
}

func joined(addresses []netip.Prefix) string {
	texts := make([]string, 0, len(addresses))
	for _, address := range addresses {
		texts = append(texts, address.String())
	}
	return strings.Join(texts, ",")
}
