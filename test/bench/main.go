// Command bench measures causeway beside Docker's own networks, on real engines in a lab,
// and writes docs/benchmarks.md. "bench run" measures (engines), "bench report" writes the
// page again from what was measured (report). How causeway grows with the cluster is
// measured by the tests in scale and by Go's benchmarks of vxlan (kernel.go), which go into
// the same page.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/test/bench/engines"
	"github.com/causeway-net/causeway/test/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{Use: "bench", SilenceUsage: true, SilenceErrors: true}
	folder := root.PersistentFlags().String("out", "docs", "`folder` of benchmarks.md")
	root.AddCommand(runCommand(folder),
		&cobra.Command{
			Use: "report", Short: "Write the page again from what was measured", Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error { return report.Write(*folder, engines.IsOurs) },
		},
		&cobra.Command{
			Use: "kernel", Short: "Put what go test -bench of vxlan prints into the results", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return addKernel(cmd.InOrStdin(), *folder) },
		},
		&cobra.Command{
			Use: engines.ProbeCommand, Hidden: true, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				line, err := engines.Probe(cmd.Context(), args[0])
				fmt.Fprint(cmd.OutOrStdout(), line)
				return err
			},
		})
	return root
}

func runCommand(folder *string) *cobra.Command {
	c := engines.Config{Log: os.Stderr}
	var trial string
	run := &cobra.Command{
		Use: "run", Short: "Measure on real engines", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.Short && trial == "" {
				trial = "short"
			}
			began := time.Now()
			results := report.Results{Taken: began, Trial: trial, Command: command(c), Facts: report.Machine(cmd.Context(), c.Binary, "iperf3", "sockperf")}
			results.Facts = append(results.Facts, report.Fact{Name: "rounds", Value: fmt.Sprint(c.Rounds)})
			c.Save = func(sections []report.Section) error {
				results.Sections, results.Took = sections, time.Since(began).Round(time.Second).String()
				return save(*folder, results)
			}
			return engines.Run(cmd.Context(), c)
		},
	}
	run.Flags().StringVar(&c.Binary, "causeway", "bin/causeway", "`path` of the binary to measure")
	run.Flags().StringVar(&c.Lab, "lab", "bench", "`name` of the lab")
	run.Flags().IntVar(&c.Rounds, "rounds", 3, "how often each is measured")
	run.Flags().StringSliceVar(&c.Rows, "rows", nil, "`names` of the rows; default: all")
	run.Flags().BoolVar(&c.Short, "short", false, "measure less of each, to try this program")
	run.Flags().StringVar(&trial, "trial", "", "`why` the values are not to be quoted")
	return run
}

// command is how a reader repeats the run.
func command(c engines.Config) string {
	words := []string{"sudo make bench", fmt.Sprint("ROUNDS=", c.Rounds)}
	if len(c.Rows) > 0 {
		words = append(words, fmt.Sprintf("ROWS=%q", strings.Join(c.Rows, ",")))
	}
	if c.Short {
		words = append(words, "SHORT=1")
	}
	return strings.Join(words, " ")
}

func save(folder string, results report.Results) error {
	dir := filepath.Join(folder, "benchmarks")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := results.Save(filepath.Join(dir, "engines.json")); err != nil {
		return err
	}
	return report.Write(folder, engines.IsOurs)
}
