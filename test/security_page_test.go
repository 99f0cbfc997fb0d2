package test

import (
	"fmt"
	"os"
	"strings"
)

// findings are what attackers got, in the order of the attempts.
type findings struct {
	rows  []string
	cells map[string]map[string]string // by row and column
}

func newFindings() *findings { return &findings{cells: make(map[string]map[string]string)} }

// note takes in a cell. What arrives once is not forgotten.
func (f *findings) note(row, column, cell string) {
	if f.cells[row] == nil {
		f.rows = append(f.rows, row)
		f.cells[row] = make(map[string]string)
	}
	if len(cell) > len(f.cells[row][column]) {
		f.cells[row][column] = cell
	}
}

func (f *findings) table(columns []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)+1))
	for _, row := range f.rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, column := range columns {
			fmt.Fprintf(&b, " %s |", f.cells[row][column])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// replaceBetween puts text between two lines of a file.
func replaceBetween(path, begin, end, text string) error {
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := strings.Cut(string(page), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		return fmt.Errorf("%s has no lines %q and %q", path, begin, end)
	}
	return os.WriteFile(path, []byte(head+begin+"\n"+text+"\n"+end+tail), 0o644)
}
