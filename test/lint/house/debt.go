package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// debts holds for each room that is not at the aims the keys of its figures above the aim, with the
// count that each may have.
type debts map[string]map[string]int

const debtsHeader = `# test/lint/house reads and writes this list.
# The rooms that are not at the aims yet, each with the count that a figure may have there.
# A room or figure that is not listed must meet its aim. A count may only fall: make figures-lower
# writes counts that have fallen. CONTRIBUTING.md tells how to take a room off.

`

// maxOffences bounds how many offences are printed for a figure of a room that fails.
const maxOffences = 20

func parseDebts(text string) (debts, error) {
	all := debts{}
	for number, line := range strings.Split(text, "\n") {
		name, rest, _ := strings.Cut(line, " ")
		if name == "" || name == "#" {
			continue
		}
		all[name] = map[string]int{}
		for item := range strings.FieldsSeq(rest) {
			key, count, _ := strings.Cut(item, "=")
			n, err := strconv.Atoi(count)
			isFigure := slices.ContainsFunc(figures, func(f figure) bool { return f.key == key })
			if err != nil || !isFigure {
				return nil, fmt.Errorf("%s:%d: %q is no key=count", debtsFile, number+1, item)
			}
			all[name][key] = n
		}
	}
	return all, nil
}

func formatDebts(all debts) string {
	var text strings.Builder
	text.WriteString(debtsHeader)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text.WriteString(name)
		for _, f := range figures {
			if n, ok := all[name][f.key]; ok {
				fmt.Fprintf(&text, " %s=%d", f.key, n)
			}
		}
		text.WriteString("\n")
	}
	return text.String()
}

// lowerDebts returns debts without the figures that are at their aims, and with the counts of the
// others as low as the rooms allow. It raises and adds none.
func lowerDebts(all debts, rooms []*room) debts {
	lowered := debts{}
	for _, r := range rooms {
		for _, f := range figures {
			allowed, listed := all[r.name][f.key]
			got := f.measure(r)
			if !listed || f.isMet(got) {
				continue
			}
			if lowered[r.name] == nil {
				lowered[r.name] = map[string]int{}
			}
			step := max(f.step, 1)
			lowered[r.name][f.key] = min(allowed, (got.count+step-1)/step*step)
		}
	}
	return lowered
}

// checkDebts prints each failure: a figure above its aim that is not listed, or above its listed
// count, and an entry of the list that is no longer needed. It returns an error if there is any.
func checkDebts(w io.Writer, all debts, rooms []*room) error {
	failures, stale := 0, false
	known := map[string]bool{}
	for _, r := range rooms {
		known[r.name] = true
		for _, f := range figures {
			allowed, listed := all[r.name][f.key]
			got := f.measure(r)
			switch {
			case listed && f.isMet(got):
				fmt.Fprintf(w, "%s: %s is at its aim, %s, and still listed\n", r.name, f.key, f.aim)
				stale = true
			case f.isMet(got) || listed && got.count <= allowed:
				continue
			case listed:
				fmt.Fprintf(w, "%s: %s=%d is above the listed %d: %s, aim %s\n",
					r.name, f.key, got.count, allowed, f.title, f.aim)
				printFirst(w, got.offences)
			default:
				fmt.Fprintf(w, "%s: %s=%d is above the aim: %s, aim %s, is %s\n",
					r.name, f.key, got.count, f.title, f.aim, f.show(got))
				printFirst(w, got.offences)
			}
			failures++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !known[name] {
			fmt.Fprintf(w, "%s: there is no such room, and it is still listed\n", name)
			stale = true
			failures++
		}
	}
	if stale {
		fmt.Fprintln(w, "make figures-lower takes off the list the figures that are at their aims")
	}
	if failures > 0 {
		return errors.New("figures are above their aims or wrongly listed: see CONTRIBUTING.md")
	}
	fmt.Fprintf(w, "figures: %d of %d rooms are at the aims, the others are no worse than listed\n",
		len(rooms)-len(all), len(rooms))
	return nil
}

func printFirst(w io.Writer, offences []offence) {
	for i, o := range offences {
		if i == maxOffences {
			fmt.Fprintf(w, "\tand %d more\n", len(offences)-i)
			return
		}
		fmt.Fprintf(w, "\t%s: %s\n", o.at, o.text)
	}
}
