package engines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/causeway-net/causeway/test/bench/report"
)

// Config says what to measure.
type Config struct {
	Binary string // causeway
	Lab    string // its name
	Rounds int
	Rows   []string // names; none: all
	Short  bool     // less of each, to try the harness
	Log    io.Writer
	// Save is called after each round, and when the run is given up: what there is is kept.
	Save func([]report.Section) error
}

// Run measures, and takes the labs down.
func Run(ctx context.Context, c Config) (err error) {
	wanted, err := c.rows()
	if err != nil {
		return err
	}
	g, stood, err := setUp(ctx, c.Lab, c.Binary, wanted, c.Log)
	defer func() { err = errors.Join(err, g.takeDown(ctx)) }()
	if err != nil {
		return err
	}
	filled := sections()
	figures := make(map[string]*report.Figure)
	for n := range filled {
		filled[n].Rows = described(filled[n], stood)
		for _, f := range filled[n].Figures {
			figures[f.ID] = f
		}
	}
	for round := range c.Rounds {
		for _, m := range measures(c.Short) {
			if err := c.each(ctx, g, m, round, figures); err != nil {
				return errors.Join(err, c.Save(filled))
			}
		}
		if err := c.Save(filled); err != nil {
			return err
		}
	}
	return nil
}

// each takes one measure of all rows, beginning with another row in each round.
func (c Config) each(ctx context.Context, g *rig, m measure, round int, figures map[string]*report.Figure) error {
	turned := slices.Concat(g.stands[round%max(1, len(g.stands)):], g.stands[:round%max(1, len(g.stands))])
	for _, s := range turned {
		if !m.wants(s.row) {
			continue
		}
		a := &attempt{stand: s, round: round, seconds: 2, repeat: 5, figures: figures}
		if c.Short {
			a.seconds, a.repeat = 1, 2
		}
		limited, stop := context.WithTimeout(ctx, m.limit)
		began := time.Now()
		err := m.take(limited, a)
		stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		state := "done"
		if err != nil {
			figures[m.figures[0]].Fail(s.name, round, err)
			state = "failed: " + err.Error()
		}
		fmt.Fprintf(c.Log, "round %d of %d: %s of %s %s (%v)\n", round+1, c.Rounds, m.figures[0], s.name, state, time.Since(began).Round(10*time.Millisecond))
	}
	return nil
}

func (c Config) rows() ([]row, error) {
	if len(c.Rows) == 0 {
		return rows(), nil
	}
	var found []row
	var known []string
	for _, r := range rows() {
		known = append(known, r.name)
		if slices.Contains(c.Rows, r.name) {
			found = append(found, r)
		}
	}
	for _, name := range c.Rows {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no row %q: there are %s", name, strings.Join(known, ", "))
		}
	}
	return found, nil
}

// described are the rows of a section, with those that could not be had.
func described(s report.Section, stood []row) []report.Row {
	kinds := map[string][]string{"traffic": {traffic}, "starts": {starts, reach}, "own": {causeway}}[s.ID]
	var all []report.Row
	for _, r := range stood {
		if slices.ContainsFunc(kinds, r.has) {
			all = append(all, report.Row{Name: r.name, What: r.what, Skipped: r.fails})
		}
	}
	return all
}
