package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func logsCommand(name *string) *cobra.Command {
	var docker bool
	cmd := &cobra.Command{
		Use:   "logs HOST",
		Short: "Print what causeway, or Docker, wrote on a host",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			host, err := l.Host(args[0])
			if err != nil {
				return err
			}
			service := host.Causeway
			if docker {
				service = host.Docker
			}
			if service == nil {
				return fmt.Errorf("%s runs no causeway: --docker prints what Docker wrote", host.Name())
			}
			file, err := os.Open(service.Log())
			if err != nil {
				return err
			}
			_, err = io.Copy(os.Stdout, file)
			return errors.Join(err, file.Close())
		},
	}
	cmd.Flags().BoolVar(&docker, "docker", false, "Docker's log")
	return cmd
}
