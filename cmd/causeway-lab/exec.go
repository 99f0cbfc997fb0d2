package main

import (
	"fmt"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func execCommand(name *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec MACHINE COMMAND [ARG…]",
		Short: "Run a command inside a machine; docker talks to that machine's engine",
		Example: `  causeway-lab exec h1 docker run -itd --net=foo --name=busybox busybox
  causeway-lab exec router tcpdump -ni eth0 udp port 4789`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			machine, err := l.Machine(args[0])
			if err != nil {
				return err
			}
			inside := machine.Command(cmd.Context(), args[1:]...)
			if inside.Err != nil {
				return inside.Err
			}
			// Becoming the command passes on streams, terminal, signals and exit code.
			err = syscall.Exec(inside.Path, inside.Args, inside.Environ())
			return fmt.Errorf("%s: %w", inside.Path, err)
		},
	}
	// Flags after MACHINE are the command's.
	cmd.Flags().SetInterspersed(false)
	return cmd
}
