package main

import (
	"cmp"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// stamped is set by the Makefile's -ldflags -X.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

// version is what the Makefile stamped, else what the go command did.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return stamped
	}
	return cmp.Or(stamped, info.Main.Version)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(command.OutOrStdout(), "causeway", version())
			return err
		},
	}
}
