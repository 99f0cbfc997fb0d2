package test

import (
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// row is what one fault did.
type row struct {
	fault            string
	injections       int
	lost, broken     int
	started, refused int
	unheard, unknown int
	heal, collect    time.Duration
	told             string
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| fault\t| injections\t| started\t| refused\t| not reached\t| names unanswered\t| echoes lost\t| connections broken\t| healed after\t| nothing left after\t| status says\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %d\t| %.1f s\t| %.1f s\t| %s\t|\n", r.fault, r.injections, r.started, r.refused, r.unheard, r.unknown,
			r.lost, r.broken, r.heal.Seconds(), r.collect.Seconds(), cmp.Or(r.told, "–"))
	}
	_ = w.Flush()
	return text.String()
}
