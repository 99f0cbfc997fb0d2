package report

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestQuantiles(t *testing.T) {
	for _, c := range []struct {
		values    []float64
		q, expect float64
	}{
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 2, 3}, 0.5, 2.5},
		{[]float64{5}, 0.99, 5},
		{[]float64{0, 100}, 0.25, 25},
	} {
		if got := Quantile(c.values, c.q); got != c.expect {
			t.Errorf("Quantile(%v, %v) is %v, and should be %v", c.values, c.q, got, c.expect)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("there is a median of nothing")
	}
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1e6, 1e6), 1, 50).Draw(t, "values")
		kept := slices.Clone(values)
		low, high := rapid.Float64Range(0, 1).Draw(t, "low"), rapid.Float64Range(0, 1).Draw(t, "high")
		low, high = min(low, high), max(low, high)
		a, b := Quantile(values, low), Quantile(values, high)
		if a > b || a < slices.Min(values) || b > slices.Max(values) {
			t.Errorf("quantiles %v and %v of %v are %v and %v", low, high, values, a, b)
		}
		if !slices.Equal(values, kept) {
			t.Error("the values were put in order")
		}
	})
}

func TestExponent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, a := rapid.Float64Range(-2, 3).Draw(t, "e"), rapid.Float64Range(0.01, 100).Draw(t, "a")
		sizes := []float64{10, 100, 300, 1000}
		var values []float64
		for _, size := range sizes {
			values = append(values, a*math.Pow(size, e))
		}
		if got := Exponent(sizes, values); math.Abs(got-e) > 1e-6 {
			t.Errorf("%v·n^%v grows as n^%v", a, e, got)
		}
	})
	for _, values := range [][]float64{{1, 0}, {math.NaN(), 2}, {0, 0}} {
		if got := Exponent([]float64{10, 100}, values); !math.IsNaN(got) {
			t.Errorf("%v has exponent %v", values, got)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for value, expect := range map[float64]string{
		0: "0", 0.012345: "0.0123", 1.005: "1", 13.37: "13.4", 999.9: "1000", 1234: "1,234", 174321: "174,300",
		1e6: "1,000,000", -88.25: "-88.3", -1234.5: "-1,235", -123456: "-123,500",
	} {
		if got := number(value); got != expect {
			t.Errorf("%v is %q, and should be %q", value, got, expect)
		}
	}
	if number(math.NaN()) != "–" {
		t.Error("what is no number is told as one")
	}
}

func TestComparedRoundByRound(t *testing.T) {
	f := &Figure{Columns: []string{"v"}, Base: "base"}
	// The machine was half as fast in the second round, and the base failed in the third.
	for round, values := range [][2]float64{{10, 8}, {5, 4}} {
		f.Add("base", "v", round, values[0])
		f.Add("mine", "v", round, values[1])
	}
	f.Add("mine", "v", 2, 1000)
	if got := f.compared("mine"); !slices.Equal(got, []float64{0.8, 0.8}) {
		t.Errorf("the ratios are %v", got)
	}
	f.Over = true
	if got := f.compared("mine"); !slices.Equal(got, []float64{-2, -1}) {
		t.Errorf("the differences are %v", got)
	}
	if got := f.compared("base"); got != nil {
		t.Errorf("the base differs from itself: %v", got)
	}
}
