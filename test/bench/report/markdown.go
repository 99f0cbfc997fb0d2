package report

import (
	"fmt"
	"math"
	"strings"
)

// page writes Markdown.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(&p.Builder, format+"\n", args...) }

// table writes a head and rows; all cells but the first are numbers.
func (p *page) table(head []string, rows [][]string) {
	p.line("| %s |", strings.Join(head, " | "))
	p.line("|---%s|", strings.Repeat("|---:", len(head)-1))
	for _, row := range rows {
		p.line("| %s |", strings.Join(row, " | "))
	}
	p.line("")
}

// Markdown gives the page of all runs; plots are the figures' images, by ID, as paths from it.
func Markdown(runs []*Results, plots map[string]string) string {
	p := new(page)
	p.line("# Benchmarks\n")
	p.line("Written by `make bench` and `make bench-scale`; the values of every round are in")
	p.line("[benchmarks/](benchmarks/). Compare within a table: its rows were measured in turns in one run,")
	p.line("so that what else the machine did has hit all alike. Both hosts are on one machine, so a")
	p.line("packet costs its sender's and its receiver's processor time, and no wire limits it.\n")
	p.bars(runs)
	for _, r := range runs {
		p.run(r)
		for _, s := range r.Sections {
			p.section(s, plots)
		}
	}
	return strings.TrimRight(p.String(), "\n") + "\n"
}

func (p *page) run(r *Results) {
	p.line("# `%s`\n", r.Command)
	p.line("Taken %s, in %s.\n", r.Taken.UTC().Format("2 January 2006 at 15:04 UTC"), r.Took)
	if r.Trial != "" {
		p.line("**This was a trial run: %s. Its values are not to be quoted.**\n", r.Trial)
	}
	for _, fact := range r.Facts {
		p.line("- %s: %s", fact.Name, fact.Value)
	}
	p.line("")
}

func (p *page) section(s Section, plots map[string]string) {
	p.line("## %s\n", s.Title)
	if s.Intro != "" {
		p.line("%s\n", s.Intro)
	}
	p.about(s.Rows)
	if s.Growth {
		p.growth(s, plots)
		return
	}
	for _, f := range s.Figures {
		p.figure(f, s.Rows, plots)
	}
}

// about says what the rows are, and which were left out.
func (p *page) about(rows []Row) {
	told := false
	for _, row := range rows {
		switch {
		case row.Skipped != "":
			p.line("- **%s**, not measured: %s", row.Name, oneLine(row.Skipped))
		case row.What != "":
			p.line("- **%s**: %s", row.Name, row.What)
		default:
			continue
		}
		told = true
	}
	if told {
		p.line("")
	}
}

func (p *page) figure(f *Figure, rows []Row, plots map[string]string) {
	p.line("### %s\n", f.Title)
	if f.How != "" {
		p.line("%s\n", f.How)
	}
	head := append([]string{f.Unit}, f.Columns...)
	if f.Base != "" {
		head = append(head, map[bool]string{true: "over ", false: "× "}[f.Over]+f.Base)
	}
	head = append(head, "n")
	var cells [][]string
	for _, row := range rows {
		values := f.Values(row.Name, f.Columns[0])
		if len(values) == 0 {
			continue
		}
		line := []string{row.Name}
		for _, column := range f.Columns {
			line = append(line, f.cell(row.Name, column))
		}
		if f.Base != "" {
			line = append(line, number(Median(f.compared(row.Name))))
		}
		cells = append(cells, append(line, fmt.Sprint(len(values))))
	}
	p.table(head, cells)
	for _, failure := range f.Failures {
		p.line("- **%s failed** in round %d: %s", failure.Row, failure.Round+1, oneLine(failure.Error))
	}
	if len(f.Failures) > 0 {
		p.line("")
	}
	if path := plots[f.ID]; path != "" {
		p.line("![%s](%s)\n", f.Title, path)
	}
}

// cell is the median with the least and the most, or two quantiles.
func (f *Figure) cell(row, column string) string {
	values := f.Values(row, column)
	if len(values) == 0 {
		return "–"
	}
	middle := number(Median(values))
	if f.Quantiles {
		return middle + " / " + number(Quantile(values, 0.99))
	}
	low, high := number(Quantile(values, 0)), number(Quantile(values, 1))
	if low == high {
		return middle
	}
	return fmt.Sprintf("%s (%s–%s)", middle, low, high)
}

// growth has a line for each figure and a column for each size.
func (p *page) growth(s Section, plots map[string]string) {
	head := []string{""}
	var sizes []float64
	for _, row := range s.Rows {
		if row.Skipped == "" {
			head, sizes = append(head, row.Name), append(sizes, row.Size)
		}
	}
	head = append(head, "grows as")
	var cells [][]string
	for _, f := range s.Figures {
		line := []string{f.Title}
		var values []float64
		for _, row := range s.Rows {
			if row.Skipped == "" {
				values = append(values, Median(f.Values(row.Name, f.Columns[0])))
				line = append(line, number(values[len(values)-1]))
			}
		}
		line[0] += ", " + f.Unit
		cells = append(cells, append(line, power(Exponent(sizes, values))))
	}
	p.table(head, cells)
	for _, f := range s.Figures {
		for _, failure := range f.Failures {
			p.line("- **%s failed** at %s: %s", f.Title, failure.Row, oneLine(failure.Error))
		}
	}
	if path := plots[s.ID]; path != "" {
		p.line("![%s](%s)\n", s.Title, path)
	}
}

func power(exponent float64) string {
	if math.IsNaN(exponent) {
		return "–"
	}
	return fmt.Sprintf("n^%.2f", exponent)
}

// oneLine is a text that stays in its list item.
func oneLine(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 400 {
		text = text[:400] + " …"
	}
	return strings.ReplaceAll(text, "|", `\|`)
}
