// Command causeway joins Docker engines on many machines into shared networks.
//
// "causeway serve" runs on each host. It reads its settings (settings.go), finds
// out what host it is on (host.go), opens the plugin's socket, the store and the
// data planes, and runs until it is asked to stop (serve.go). Containers keep
// talking while it does not run. The other commands ask it over its second
// socket what the cluster looks like (status.go).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	if err.Error() != "" {
		fmt.Fprintln(os.Stderr, "causeway:", err)
	}
	status := 1
	if exit := new(exitError); errors.As(err, &exit) {
		status = exit.status
	}
	os.Exit(status)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "causeway",
		Short:         "Shared container networks for Docker engines on many machines",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("causeway {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serveCommand(), tokenCommand(), caCommand(), backupCommand(), restoreCommand(), reportCommand(), uiCommand(), manCommand(), versionCommand())
	root.AddCommand(statusCommands()...)
	return root
}
