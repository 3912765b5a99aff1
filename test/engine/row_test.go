//go:build bench && linux

package engine

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// row is a figure with its sources.
type row struct {
	Name   string
	Ours   float64 // µs of CPU per operation
	Beside float64 // the reference's: raw unless the test's name says otherwise; 0: no reference
	Empty  float64 // µs of CPU of a call with a handler that only answers; 0: not measured
	Value  float64 // the figure
	Unit   string  // of the figure; a ratio is "x"
	Target float64 // the bound of the figure; 0: the figure has no bound
}

// ratio returns the row of rounds in which the hub and the reference each made so many deliveries.
func ratio(name string, deliveries int, took [][]time.Duration, target float64) row {
	ours, raw := took[0], took[1]
	return row{
		Name:   name,
		Ours:   medianOf(len(ours), func(i int) float64 { return micros(ours[i], deliveries) }),
		Beside: medianOf(len(raw), func(i int) float64 { return micros(raw[i], deliveries) }),
		Value: medianOf(len(ours), func(i int) float64 {
			return float64(ours[i]) / float64(raw[i])
		}),
		Unit:   "x",
		Target: target,
	}
}

// middle returns the medians of the runs' rows, and all their figures.
func middle(runs [][]row) (rows []row, figures [][]float64) {
	for i, r := range runs[0] {
		r.Ours = medianOf(len(runs), func(run int) float64 { return runs[run][i].Ours })
		r.Beside = medianOf(len(runs), func(run int) float64 { return runs[run][i].Beside })
		r.Empty = medianOf(len(runs), func(run int) float64 { return runs[run][i].Empty })
		r.Value = medianOf(len(runs), func(run int) float64 { return runs[run][i].Value })
		rows = append(rows, r)
		var all []float64
		for _, run := range runs {
			all = append(all, run[i].Value)
		}
		figures = append(figures, all)
	}
	return rows, figures
}

// The columns of the table.
const (
	headline = "%-44s %9s %9s %9s  %-12s %-15s %s\n"
	line     = "%-44s %9s %9s %9s  %-12s %-15s %s%s\n"
)

// tabulate writes the table of a test.
func tabulate(w io.Writer, title string, runs [][]row) {
	fmt.Fprintf(
		w, "\n"+headline, title, "ours µs", "beside µs", "empty µs", "figure", "target", "runs",
	)
	rows, figures := middle(runs)
	for i, r := range rows {
		target, verdict := "", ""
		if r.Target > 0 {
			target = "<= " + with(r.Target, r.Unit)
			if r.Value > r.Target {
				verdict = "  MISSED"
			}
		}
		var all []string
		for _, f := range figures[i] {
			all = append(all, number(f))
		}
		fmt.Fprintf(w, line, r.Name, orDash(r.Ours),
			orDash(r.Beside), orDash(r.Empty), with(r.Value, r.Unit), target,
			strings.Join(all, " "), verdict)
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 2, 64) }

func with(f float64, unit string) string { return strings.TrimSpace(number(f) + " " + unit) }

func orDash(f float64) string {
	if f == 0 {
		return "-"
	}
	return number(f)
}
