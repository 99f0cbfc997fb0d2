package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/lab"
)

func listCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the machines, their addresses and what runs on them",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			return list(os.Stdout, l)
		},
	}
}

func list(w io.Writer, l *lab.Lab) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MACHINE\tADDRESSES\tENGINE\tRUNNING")
	for _, m := range l.Machines() {
		var addrs, running []string
		for _, addr := range m.Addrs() {
			addrs = append(addrs, addr.Addr().String())
		}
		for _, d := range m.Services() {
			state := "stopped"
			if pid := d.PID(); pid != 0 {
				state = fmt.Sprint(pid)
			}
			running = append(running, d.Name()+" "+state)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.Name(), dash(addrs), dash([]string{m.Engine()}), dash(running))
	}
	return table.Flush()
}

func dash(words []string) string {
	if text := strings.Join(words, ", "); text != "" {
		return text
	}
	return "-"
}
