// Command causeway-lab puts several Docker hosts with causeway on one machine,
// to try things out: see package lab.
//
// Each subcommand is a file; main alone exits.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "causeway-lab:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "causeway-lab",
		Short:         "Several Docker hosts with causeway on one machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	name := root.PersistentFlags().String("name", lab.DefaultName(), "`name` of the lab; several can be up at once [CAUSEWAY_LAB]")
	root.AddCommand(upCommand(name), execCommand(name), listCommand(name), logsCommand(name), downCommand(name), toolsCommand())
	return root
}
