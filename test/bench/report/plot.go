package report

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// bars of causeway's rows and of the others.
func ours() color.Color   { return color.NRGBA{R: 0x2b, G: 0x6c, B: 0xb0, A: 0xff} }
func theirs() color.Color { return color.NRGBA{R: 0xa0, G: 0xae, B: 0xc0, A: 0xff} }

// SVG draws the figure's first column: a bar for each row's median, and a line from the
// least to the most.
func (f *Figure) SVG(rows []Row, isOurs func(row string) bool) ([]byte, error) {
	p := newPlot(f.Title, f.Unit)
	var names []string
	for _, row := range slices.Backward(rows) { // the first row on top
		values := f.Values(row.Name, f.Columns[0])
		if len(values) == 0 {
			continue
		}
		bar, err := plotter.NewBarChart(plotter.Values{Median(values)}, vg.Points(11))
		if err != nil {
			return nil, err
		}
		bar.Horizontal, bar.XMin, bar.LineStyle.Width, bar.Color = true, float64(len(names)), 0, theirs()
		if isOurs(row.Name) {
			bar.Color = ours()
		}
		at := float64(len(names))
		spread, err := plotter.NewLine(plotter.XYs{{X: Quantile(values, 0), Y: at}, {X: Quantile(values, 1), Y: at}})
		if err != nil {
			return nil, err
		}
		p.Add(bar, spread)
		names = append(names, row.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("plot %s: it has no values", f.ID)
	}
	p.NominalY(names...)
	p.X.Min, p.X.Max = min(p.X.Min, 0), 1.04*p.X.Max
	return drawn(p, vg.Points(54+19*float64(len(names))))
}

// SVG draws how the figures grow with the rows' sizes, each as a multiple of its first
// value, on axes with logarithms.
func (s *Section) SVG() ([]byte, error) {
	p := newPlot(s.Title, "")
	p.Y.Label.Text = "× the value at the first size"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Legend.Left, p.Legend.Top = true, true
	drawnLines := 0
	for _, f := range s.Figures {
		line := f.growthLine(s.Rows)
		if len(line) < 2 {
			continue
		}
		curve, points, err := plotter.NewLinePoints(line)
		if err != nil {
			return nil, err
		}
		curve.Color, points.Color = plotutil.Color(drawnLines), plotutil.Color(drawnLines)
		points.Shape = plotutil.Shape(drawnLines)
		p.Add(curve, points)
		p.Legend.Add(f.Title, curve, points)
		drawnLines++
	}
	if drawnLines == 0 {
		return nil, fmt.Errorf("plot %s: no figure has two sizes", s.ID)
	}
	return drawn(p, vg.Points(160+14*float64(drawnLines)))
}

func (f *Figure) growthLine(rows []Row) plotter.XYs {
	var line plotter.XYs
	first := math.NaN()
	for _, row := range rows {
		value := Median(f.Values(row.Name, f.Columns[0]))
		if math.IsNaN(value) || value <= 0 || row.Size <= 0 {
			continue
		}
		if math.IsNaN(first) {
			first = value
		}
		line = append(line, plotter.XY{X: row.Size, Y: value / first})
	}
	return line
}

func newPlot(title, unit string) *plot.Plot {
	p := plot.New()
	for _, style := range []*font.Font{
		&p.Title.TextStyle.Font, &p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font,
		&p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font,
	} {
		style.Variant, style.Size = "Sans", vg.Points(10)
	}
	p.Title.Text, p.X.Label.Text, p.Title.Padding = title, unit, vg.Points(6)
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	return p
}

func drawn(p *plot.Plot, height vg.Length) ([]byte, error) {
	canvas := vgsvg.New(vg.Points(520), height)
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(8), -vg.Points(8), vg.Points(4), -vg.Points(4)))
	var text bytes.Buffer
	_, err := canvas.WriteTo(&text)
	return text.Bytes(), err
}
