package report

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mostNamespaces bounds what a host with very many networks reports: each has a
// namespace, and one tells much of the others.
const mostNamespaces = 50

// sysctls are those that decide where packets go.
func sysctls() []string {
	return []string{
		"kernel/osrelease", "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6",
		"net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter", "net/bridge/bridge-nf-call-iptables",
		"net/bridge/bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-arptables", "net/ipv4/neigh/default/gc_thresh3",
		"net/ipv6/neigh/default/gc_thresh3", "net/ipv6/route/max_size", "net/netfilter/nf_conntrack_max",
		"net/netfilter/nf_conntrack_count", "net/core/rmem_max", "fs/inotify/max_user_instances", "user/max_net_namespaces",
	}
}

func readSysctls(context.Context) (string, error) {
	var text strings.Builder
	for _, name := range sysctls() {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if err != nil {
			fmt.Fprintf(&text, "%s: %v\n", name, err)
			continue
		}
		fmt.Fprintf(&text, "%s = %s", name, value)
	}
	return text.String(), nil
}

// commands tell what the kernel and the switch have; none prints a key.
func commands() []string {
	return []string{
		"ip -d -s link", "ip -d addr", "ip route show table all", "ip -6 route show table all", "ip rule", "ip neigh", "bridge fdb",
		"bridge vlan", "nft list ruleset",
		"ovs-vsctl show", "ovs-ofctl -O OpenFlow15 --names dump-flows causeway", "ovs-ofctl -O OpenFlow15 dump-groups causeway", "wg show",
		"ip netns list", "ss -lntu", "uname -a",
	}
}

// inNamespace are those that are asked in each network's own.
func inNamespace() []string { return []string{"ip -d -s link", "ip -d addr", "ip neigh", "bridge fdb"} }

// namespaces are those of causeway's networks, by name.
func namespaces() []string {
	found, err := filepath.Glob("/run/netns/causeway-*")
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(found))
	for _, path := range found {
		names = append(names, filepath.Base(path))
	}
	return names
}

// kernelItems are the outcomes of all commands.
func kernelItems() []item {
	items := []item{{"kernel/sysctl", readSysctls}}
	for _, command := range commands() {
		items = append(items, item{"kernel/" + strings.ReplaceAll(command, " ", "_"), run(command)})
	}
	names := namespaces()
	for _, name := range names[:min(len(names), mostNamespaces)] {
		for _, command := range inNamespace() {
			tool, rest, _ := strings.Cut(command, " ")
			items = append(items, item{"kernel/" + name + "/" + strings.ReplaceAll(command, " ", "_"), run(tool + " -n " + name + " " + rest)})
		}
	}
	if more := len(names) - mostNamespaces; more > 0 {
		items = append(items, item{"kernel/namespaces", func(context.Context) (string, error) {
			return "", fmt.Errorf("%d more of causeway's namespaces are left out", more)
		}})
	}
	return items
}

// run gives a reader of what a command prints.
func run(command string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		words := strings.Fields(command)
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
		if exit := new(exec.ExitError); errors.As(err, &exit) {
			err = fmt.Errorf("%s: %w: %s", command, err, strings.TrimSpace(string(exit.Stderr)))
		}
		return string(out), err
	}
}
