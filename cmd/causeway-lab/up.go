package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func upCommand(name *string) *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up: hosts h1, h2, …, a router, a machine outside and one without Docker",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Hosts < 1 {
				return fmt.Errorf("--hosts is %d: a lab has at least one", o.Hosts)
			}
			o.Name, o.Log = *name, os.Stderr
			started := time.Now()
			l, err := lab.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "lab %s is up after %.1f s\n", l.Name(), time.Since(started).Seconds())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&o.Hosts, "hosts", 2, "`number` of Docker hosts")
	flags.IntVar(&o.Far, "far", 0, "`number` of them that are on a second LAN behind the router")
	flags.StringVar(&o.Engine, "engine", "28.5", "Docker's `version`: "+strings.Join(lab.Engines(), ", "))
	flags.StringSliceVar(&o.Engines, "engines", nil, "`versions` for h1, h2, … where they differ")
	flags.StringVar(&o.Store, "store", lab.StoreEmbedded, "where the records are: embedded (in the hosts' causeways) or etcd (a server of its own)")
	flags.StringVar(&o.Causeway, "causeway", "", "`path` of the binary to run; default: the one beside this program")
	flags.StringArrayVar(&o.CausewayArgs, "causeway-arg", nil, "`argument` to add to causeway serve; may be repeated")
	flags.StringArrayVar(&o.DockerArgs, "docker-arg", nil, "`argument` to add to dockerd; may be repeated")
	flags.BoolVar(&o.Plugin, "plugin", false, "install causeway as a managed plugin, built by the working folder's Makefile and installed from a registry in the lab")
	flags.BoolVar(&o.NoCauseway, "no-causeway", false, "run Docker alone")
	flags.BoolVar(&o.OVS, "ovs", false, "run Open vSwitch on each host, on its datapath in user space")
	flags.BoolVar(&o.WireGuard, "wireguard", false, "put wireguard-go on each host's PATH")
	flags.IntVar(&o.MTU, "mtu", 1500, "MTU of all links in `bytes`")
	flags.BoolVar(&o.VTEP6, "vtep6", false, "tunnel over IPv6")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Take the lab down and leave nothing of it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return l.Down(cmd.Context())
		},
	}
}
