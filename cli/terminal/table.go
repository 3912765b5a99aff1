package terminal

import (
	"strings"

	runewidth "github.com/mattn/go-runewidth"
)

// columnGap is the space between two columns.
const columnGap = 3

// PrintTable prints rows below headers in aligned columns. Names come from strangers: see
// MakePrintable.
func (t *Terminal) PrintTable(headers []string, rows [][]string) {
	widths := make([]int, len(headers))
	for i, h := range headers {
		widths[i] = runewidth.StringWidth(h)
	}
	for _, row := range rows {
		for i := range row {
			row[i] = MakePrintable(row[i])
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
	line(headers, t.Out.DimText, t.Out.DimText)
	for _, row := range rows {
		line(row, t.Out.CyanText, leaveUncoloured)
	}
	_, _ = t.Stdout.Write([]byte(b.String()))
}

func leaveUncoloured(s string) string { return s }

// PrintFields prints names and values below each other. The values are aligned.
func (t *Terminal) PrintFields(pairs [][2]string) {
	width := 0
	for _, p := range pairs {
		width = max(width, runewidth.StringWidth(p[0]))
	}
	var b strings.Builder
	for _, p := range pairs {
		pad := strings.Repeat(" ", width-runewidth.StringWidth(p[0])+columnGap)
		b.WriteString(strings.TrimRight(t.Out.DimText(p[0])+pad+MakePrintable(p[1]), " ") + "\n")
	}
	_, _ = t.Stdout.Write([]byte(b.String()))
}

// ShortenText cuts s to a width for a column, and marks the cut.
func ShortenText(s string, width int) string { return runewidth.Truncate(s, width, "…") }
