// Package report keeps what benchmarks measured and writes it for readers.
//
// A run fills [Results]: sections of figures, each with the values of every row in every
// round. They are kept as JSON beside the page, so the page can be written again without
// measuring. Write makes the page: a table (markdown.go) and a plot (plot.go) for each
// figure, and which bars are met (bars.go), from medians and spreads (stats.go).
package report
