package main

import (
	"strings"

	runewidth "github.com/mattn/go-runewidth"
)

// columnGap is the space between two columns.
const columnGap = 3

// printTable prints rows below headers in aligned columns. Names come from strangers: see
// makePrintable.
func (t *terminal) printTable(headers []string, rows [][]string) {
	widths := make([]int, len(headers))
	for i, h := range headers {
		widths[i] = runewidth.StringWidth(h)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = makePrintable(row[i])
			widths[i] = max(widths[i], runewidth.StringWidth(row[i]))
		}
	}
	var b strings.Builder
	line := func(cells []string, first, others func(string) string) {
		gap := 0 // no blanks at the end of a line: they would wrap
		for i, cell := range cells {
			paint := others
			if i == 0 {
				paint = first
			}
			if cell != "" {
				b.WriteString(strings.Repeat(" ", gap))
				b.WriteString(paint(cell))
				gap = 0
			}
			gap += widths[i] - runewidth.StringWidth(cell) + columnGap
		}
		b.WriteByte('\n')
	}
	line(headers, t.out.dimText, t.out.dimText)
	for _, row := range rows {
		line(row, t.out.cyanText, leaveUncoloured)
	}
	_, _ = t.stdout.Write([]byte(b.String()))
}

func leaveUncoloured(s string) string { return s }

// printFields prints names and values below each other. The values are aligned.
func (t *terminal) printFields(pairs [][2]string) {
	width := 0
	for _, p := range pairs {
		width = max(width, runewidth.StringWidth(p[0]))
	}
	var b strings.Builder
	for _, p := range pairs {
		pad := strings.Repeat(" ", width-runewidth.StringWidth(p[0])+columnGap)
		b.WriteString(strings.TrimRight(t.out.dimText(p[0])+pad+makePrintable(p[1]), " ") + "\n")
	}
	_, _ = t.stdout.Write([]byte(b.String()))
}

// shortenText cuts s to a width for a column, and marks the cut.
func shortenText(s string, width int) string { return runewidth.Truncate(s, width, "…") }
