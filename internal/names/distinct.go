package names

import (
	"slices"
	"strings"
)

// Distinct returns names without repetitions, in order. It copies them: they may be parts of a long
// text, which need not live as long.
func Distinct(names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		if !slices.Contains(out, n) {
			out = append(out, strings.Clone(n))
		}
	}
	return out
}
