package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/doctor"
)

// What doctor exits with, for scripts; 0 where nothing was found.
const (
	exitFindings = 1
	exitNoLook   = 2
)

// exitError ends the process with a status of its own; without an err nothing is said.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func doctorCommand() *cobra.Command {
	var asJSON, all bool
	var socket string
	command := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong on this host and on its way to the others, and say what to do", Args: noArgs,
		Long: "Look for what is wrong on this host and on its way to the others. Each finding has a cause,\n" +
			"what shows it, and a remedy. Nothing is changed, and it takes no more than five seconds.\n\n" +
			"The exit status is 0 where nothing was found, 1 where something was, 2 where nobody could look.",
		RunE: func(command *cobra.Command, _ []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return &exitError{exitNoLook, err}
			}
			diagnosis, err := agent.NewClient(socket).Doctor(command.Context(), agent.Whom{All: all})
			if err != nil {
				return &exitError{exitNoLook, printableError(err)}
			}
			if asJSON {
				err = printJSON(command.OutOrStdout(), diagnosis)
			} else {
				err = printDiagnosis(command.OutOrStdout(), diagnosis)
			}
			if err != nil {
				return &exitError{exitNoLook, err}
			}
			if len(diagnosis.Findings) > 0 {
				return &exitError{status: exitFindings}
			}
			return nil
		},
	}
	command.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exitError{exitNoLook, err} })
	command.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	command.Flags().BoolVar(&all, "all", false, "ask the doctors of all hosts, through the store")
	agentFlag(command, &socket)
	return command
}

// noArgs refuses arguments, and nobody has looked then.
func noArgs(command *cobra.Command, args []string) error {
	if err := cobra.NoArgs(command, args); err != nil {
		return &exitError{exitNoLook, err}
	}
	return nil
}

func printDiagnosis(w io.Writer, d doctor.Diagnosis) error {
	if len(d.Findings) == 0 {
		_, err := fmt.Fprintln(w, "nothing found")
		return err
	}
	var errs []error
	for i, f := range d.Findings {
		_, err := fmt.Fprint(w, paragraph(i+1, f))
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func paragraph(number int, f doctor.Finding) string {
	gap := ""
	if number > 1 {
		gap = "\n"
	}
	return fmt.Sprintf("%s%d. %s on %s: %s\n   evidence: %s\n   remedy:   %s\n",
		gap, number, f.Severity, printable(f.Host), printable(f.Cause), printable(f.Evidence), printable(f.Remedy))
}
