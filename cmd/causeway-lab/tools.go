package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func toolsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tools COMMAND [ARG…]",
		Short: "Run a command with the lab's Open vSwitch, etcd and promtool on its PATH; nothing is installed",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			variables, err := lab.Tools(cmd.Context(), os.Stderr)
			if err != nil {
				return err
			}
			for name, value := range variables {
				if err := os.Setenv(name, value); err != nil {
					return err
				}
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return err
			}
			return fmt.Errorf("%s: %w", path, syscall.Exec(path, args, os.Environ()))
		},
	}
	cmd.Flags().SetInterspersed(false) // flags after COMMAND are the command's
	return cmd
}
