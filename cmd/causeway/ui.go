package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/ui"
)

func uiCommand() *cobra.Command {
	var socket, listen string
	var every time.Duration
	command := &cobra.Command{
		Use: "ui", Short: "Serve a page that shows the cluster, until it is interrupted", Args: cobra.NoArgs,
		Long: "Serve a page that shows the cluster as this host sees it: hosts, networks, containers and\n" +
			"their addresses, who talks to whom, the tunnels between hosts, and what doctor finds. It follows changes, and\n" +
			"changes nothing itself.\n\n" +
			"It is served on a loopback address, which every user of this host reaches, or on a unix\n" +
			"socket, which root alone does. From elsewhere: ssh -L 9469:127.0.0.1:9469 HOST.",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			if every < time.Second {
				return fmt.Errorf("--doctor-every is %v: it must be at least 1s", every)
			}
			listener, err := ui.Listen(command.Context(), listen)
			if err != nil {
				return err
			}
			where := "http://" + listener.Addr().String() + "/"
			if strings.HasPrefix(listen, "unix:") {
				where = listen
			}
			if _, err := fmt.Fprintf(command.OutOrStdout(), "the page is at %s\n", where); err != nil {
				return err
			}
			log := logrus.New()
			log.SetOutput(command.ErrOrStderr())
			return ui.Serve(command.Context(), ui.Config{Source: agent.NewClient(socket), DoctorEvery: every, Log: logrus.NewEntry(log)}, listener)
		},
	}
	command.Flags().StringVar(&listen, "listen", "127.0.0.1:9469", "loopback `address` and port to serve the page at, or unix:/path")
	command.Flags().DurationVar(&every, "doctor-every", 30*time.Second, "`time` between two examinations of all hosts, while somebody has the page open")
	agentFlag(command, &socket)
	return command
}
