package report

import (
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Quantile gives the value that a share q of all is not above, between neighbours by
// proportion; NaN of none.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Median is the quantile in the middle.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// compared gives how a row's values relate to the base's, in each round that has both:
// their medians' ratio, or with over their difference.
func (f *Figure) compared(row string) []float64 {
	mine, base := f.find(row, f.Columns[0]), f.find(f.Base, f.Columns[0])
	if mine == nil || base == nil || row == f.Base {
		return nil
	}
	var all []float64
	for n := range min(len(mine.Rounds), len(base.Rounds)) {
		if len(mine.Rounds[n]) == 0 || len(base.Rounds[n]) == 0 {
			continue
		}
		if value, against := Median(mine.Rounds[n]), Median(base.Rounds[n]); f.Over {
			all = append(all, value-against)
		} else if against != 0 {
			all = append(all, value/against)
		}
	}
	return all
}

// Exponent is e of the curve a·sizeᵉ that lies nearest to the values on paper with
// logarithmic axes; NaN if there are not two positive ones.
func Exponent(sizes, values []float64) float64 {
	var n, x, y, xx, xy float64
	for i, size := range sizes {
		if size <= 0 || values[i] <= 0 || math.IsNaN(values[i]) {
			continue
		}
		lx, ly := math.Log(size), math.Log(values[i])
		n, x, y, xx, xy = n+1, x+lx, y+ly, xx+lx*lx, xy+lx*ly
	}
	if spread := n*xx - x*x; n >= 2 && spread > 1e-9 {
		return (n*xy - x*y) / spread
	}
	return math.NaN()
}

// significant rounds to so many digits.
func significant(value float64, digits int) float64 {
	if value == 0 || math.IsNaN(value) || math.IsInf(value, 0) {
		return value
	}
	scale := math.Pow(10, float64(digits-1)-math.Floor(math.Log10(math.Abs(value))))
	return math.Round(value*scale) / scale
}

// number is for readers: three digits, thousands apart.
func number(value float64) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case math.Abs(value) < 1000:
		return strconv.FormatFloat(significant(value, 3), 'f', -1, 64)
	}
	text := strconv.FormatFloat(math.Round(significant(value, 4)), 'f', 0, 64)
	first := len(text) % 3
	if strings.HasPrefix(text, "-") {
		first = (len(text)-1)%3 + 1
	}
	var parts []string
	if first > 0 && text[:first] != "-" {
		parts = append(parts, text[:first])
	}
	for at := first; at < len(text); at += 3 {
		parts = append(parts, text[at:at+3])
	}
	if text[:first] == "-" {
		parts[0] = "-" + parts[0]
	}
	return strings.Join(parts, ",")
}

// flat puts JSON's lists of numbers on one line each.
func flat(text []byte) []byte {
	lists := regexp.MustCompile(`\[[-+0-9.eE,\s]*\]`)
	blanks := regexp.MustCompile(`\s+`)
	return lists.ReplaceAllFunc(text, func(list []byte) []byte { return blanks.ReplaceAll(list, nil) })
}
