package report

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"
)

// Results are those of one run.
type Results struct {
	Taken   time.Time `json:"taken"`
	Took    string    `json:"took"`
	Command string    `json:"command"`
	// Trial says that the run was made to try the harness, short or on a busy machine.
	Trial string `json:"trial,omitempty"`
	// Facts tell of the machine and of versions, in their order.
	Facts    []Fact    `json:"facts"`
	Sections []Section `json:"sections"`
}

// Fact is a thing and what it is.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Section is a group of figures with the same rows.
type Section struct {
	ID      string    `json:"id"`
	Title   string    `json:"title"`
	Intro   string    `json:"intro,omitempty"`
	Rows    []Row     `json:"rows"`
	Figures []*Figure `json:"figures"`
	// Growth has the rows' sizes against each other: the table is turned, and tells exponents.
	Growth bool `json:"growth,omitempty"`
}

// Row is one thing that is compared with others.
type Row struct {
	Name    string  `json:"name"`
	What    string  `json:"what,omitempty"`
	Skipped string  `json:"skipped,omitempty"` // why it was not measured
	Size    float64 `json:"size,omitempty"`    // with Growth
}

// Figure is what was measured of each row.
type Figure struct {
	ID             string `json:"id"`
	Title          string `json:"title"`
	How            string `json:"how,omitempty"`
	Unit           string `json:"unit"`
	HigherIsBetter bool   `json:"higher_is_better,omitempty"`
	// Columns are the values that one measurement gives, the one to compare by first.
	Columns []string `json:"columns"`
	// Base is the row that the first column is compared with: as a ratio, or by what it is Over.
	Base string `json:"base,omitempty"`
	Over bool   `json:"over,omitempty"`
	// Quantiles has cells tell p50 and p99 instead of the median and the spread.
	Quantiles bool      `json:"quantiles,omitempty"`
	Series    []*Series `json:"series"`
	Failures  []Failure `json:"failures,omitempty"`
}

// Series are the values of one row and column. Rounds has those of each round, none where it failed.
type Series struct {
	Row    string      `json:"row"`
	Column string      `json:"column"`
	Rounds [][]float64 `json:"rounds"`
}

// Failure is a measurement that gave no value.
type Failure struct {
	Row   string `json:"row"`
	Round int    `json:"round"`
	Error string `json:"error"`
}

// Add notes a value that was measured in a round, counted from 0.
func (f *Figure) Add(row, column string, round int, value float64) {
	s := f.find(row, column)
	if s == nil {
		s = &Series{Row: row, Column: column}
		f.Series = append(f.Series, s)
	}
	for len(s.Rounds) <= round {
		s.Rounds = append(s.Rounds, nil)
	}
	s.Rounds[round] = append(s.Rounds[round], significant(value, 5))
}

// Fail notes why there is none.
func (f *Figure) Fail(row string, round int, err error) {
	f.Failures = append(f.Failures, Failure{row, round, err.Error()})
}

func (f *Figure) find(row, column string) *Series {
	at := slices.IndexFunc(f.Series, func(s *Series) bool { return s.Row == row && s.Column == column })
	if at < 0 {
		return nil
	}
	return f.Series[at]
}

// Values are all of a row's, of all rounds.
func (f *Figure) Values(row, column string) []float64 {
	s := f.find(row, column)
	if s == nil {
		return nil
	}
	return slices.Concat(s.Rounds...)
}

// Section gives the one of that ID, or nil.
func (r *Results) Section(id string) *Section {
	for i := range r.Sections {
		if r.Sections[i].ID == id {
			return &r.Sections[i]
		}
	}
	return nil
}

// Figure gives the one of that ID, or nil.
func (r *Results) Figure(id string) *Figure {
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			if f.ID == id {
				return f
			}
		}
	}
	return nil
}

// Load reads what Save wrote.
func Load(path string) (*Results, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(Results)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// Save writes the results to a file.
func (r *Results) Save(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(flat(text), '\n'), 0o644)
}

// Put adds a section, in the place of the one of its ID.
func (r *Results) Put(s Section) {
	if old := r.Section(s.ID); old != nil {
		*old = s
		return
	}
	r.Sections = append(r.Sections, s)
}
