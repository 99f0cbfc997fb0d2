package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/report"
)

func reportCommand() *cobra.Command {
	var socket, dataDir, docker string
	command := &cobra.Command{
		Use: "report [FILE]", Short: "Write all that is needed to find a fault into one archive, without secrets", Args: cobra.MaximumNArgs(1),
		Long: "Write status, findings, records, the log, what the kernel and Open vSwitch have, and what\n" +
			"Docker says of itself into one .tar.gz. Keys, tokens and passwords are left out; names and\n" +
			"addresses of hosts, networks and containers are in it. It works as far as it can while the\n" +
			"agent, the store or Docker is down, and says what is missing.",
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			path, err := reportPath(args)
			if err != nil {
				return err
			}
			var missing []string
			size, err := writeWhole(path, func(w io.Writer) (err error) {
				missing, err = report.Write(command.Context(), w, report.Config{
					Version: version(), Agent: agent.NewClient(socket), DataDir: dataDir, Docker: docker,
				})
				return err
			})
			if err != nil {
				return fmt.Errorf("report: %w", err)
			}
			for _, each := range missing {
				if _, err := fmt.Fprintln(command.ErrOrStderr(), "missing:", printable(each)); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s has the report (%d kB)\n", path, size>>10)
			return err
		},
	}
	command.Flags().StringVar(&dataDir, "data-dir", "/var/lib/causeway", "`folder` of causeway serve, whose keys are kept out")
	command.Flags().StringVar(&docker, "docker-socket", "/run/docker.sock", "`path` of the engine's socket")
	agentFlag(command, &socket)
	return command
}

// reportPath is the file that was given, or one that shows the host and the time.
func reportPath(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("causeway-report-%s-%s.tar.gz", host, time.Now().UTC().Format("20060102-150405")), nil
}
