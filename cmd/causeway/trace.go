package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/trace"
)

// exitSilent is what trace exits with where the probe was not answered.
const exitSilent = 1

func traceCommand() *cobra.Command {
	var asJSON bool
	var socket string
	var port uint16
	command := &cobra.Command{
		Use: "trace FROM TO", Short: "Follow a packet between two containers, and name the hop where it is lost",
		Args: func(command *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(command, args); err != nil {
				return &exitError{exitNoLook, err}
			}
			return nil
		},
		Long: "Send a real packet from the container FROM of this host, by name or ID, to the container TO\n" +
			"of any host, by name or address, and watch it on each hop of both hosts. Each hop is shown\n" +
			"as the records want it and as the kernel has it. Nothing is changed, and it takes some\n" +
			"three seconds.\n\n" +
			"The exit status is 0 where TO answers, 1 where it does not, 2 where nobody could look.",
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return &exitError{exitNoLook, err}
			}
			result, err := agent.NewClient(socket).Trace(command.Context(), agent.Trip{From: args[0], To: args[1], Port: port})
			if err != nil {
				return &exitError{exitNoLook, printableError(err)}
			}
			if asJSON {
				err = printJSON(command.OutOrStdout(), result)
			} else {
				err = printTrace(command.OutOrStdout(), result)
			}
			if err != nil {
				return &exitError{exitNoLook, err}
			}
			if !result.Answered {
				return &exitError{status: exitSilent}
			}
			return nil
		},
	}
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitNoLook, err} })
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().Uint16Var(&port, "port", 0, "connect to this TCP `port`, in place of an ICMP echo")
	agentFlag(command, &socket)
	return command
}

func printTrace(w io.Writer, r trace.Result) error {
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row(table, "HOST", "HOP", "REQUEST", "ANSWER", "CHECK")
	for _, hop := range r.Hops {
		name := []any{hop.Host, fmt.Sprintf("%s %s", hop.Kind, hop.Name), saw(hop.Watched, hop.Request), saw(hop.Watched, hop.Answer)}
		for _, check := range hop.Checks {
			text := "ok: " + check.Want
			if check.Have != check.Want {
				text = fmt.Sprintf("WRONG: want %s, the kernel has %s", check.Want, check.Have)
			}
			row(table, append(name, text)...)
			name = []any{"", "", "", ""}
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	text := fmt.Sprintf("\n%s\n", printable(r.Verdict))
	if r.Unwatched != "" {
		text += printable(r.Unwatched) + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

func saw(watched, seen bool) string {
	switch {
	case !watched:
		return "?"
	case seen:
		return "seen"
	}
	return "-"
}
