package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Runs are the files that Write looks for, in the order of the page.
func Runs() []string { return []string{"engines.json", "scale.json"} }

// Write makes folder/benchmarks.md with its plots from the results in folder/benchmarks,
// where isOurs tells causeway's rows. Results that are not there are left out.
func Write(folder string, isOurs func(row string) bool) error {
	dir := filepath.Join(folder, "benchmarks")
	var runs []*Results
	for _, name := range Runs() {
		r, err := Load(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		runs = append(runs, r)
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	plots := make(map[string]string)
	for _, r := range runs {
		for _, s := range r.Sections {
			if err := s.draw(dir, isOurs, plots); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(filepath.Join(folder, "benchmarks.md"), []byte(Markdown(runs, plots)), 0o644)
}

// draw writes the section's plots and notes their paths, by what they show. What has no
// values has no plot.
func (s *Section) draw(dir string, isOurs func(string) bool, plots map[string]string) error {
	if s.Growth {
		image, err := s.SVG()
		if err != nil {
			return nil //nolint:nilerr // one size alone
		}
		return s.keep(dir, s.ID, image, plots)
	}
	for _, f := range s.Figures {
		image, err := f.SVG(s.Rows, isOurs)
		if err != nil {
			continue
		}
		if err := s.keep(dir, f.ID, image, plots); err != nil {
			return err
		}
	}
	return nil
}

func (s *Section) keep(dir, id string, image []byte, plots map[string]string) error {
	plots[id] = filepath.Join("benchmarks", id+".svg")
	return os.WriteFile(filepath.Join(dir, id+".svg"), image, 0o644)
}
