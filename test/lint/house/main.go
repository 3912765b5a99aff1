// Command house measures how readable the project is, by the figures that it aims at.
//
//	go run ./test/lint/house              prints the figures of the whole project and of each room
//	go run ./test/lint/house -v hub/edge  prints the offences of a room too
//	go run ./test/lint/house -check       fails if a room is above an aim and above its debt
//	go run ./test/lint/house -lower       writes debts that have fallen to the list
//
// A room is a package, a folder of protos, scripts or configurations, or a page of the
// documentation. Run it from the folder of the module. CONTRIBUTING.md tells how to take a room off
// the list of debts.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

const debtsFile = "test/lint/house/debts.txt"

// maxHomonyms bounds the list of method names that stand for different things.
const maxHomonyms = 12

func main() {
	verbose := flag.Bool("v", false, "print the offences too")
	check := flag.Bool("check", false, "fail if a room is above an aim and above its debt")
	lower := flag.Bool("lower", false, "write debts that have fallen to "+debtsFile)
	flag.Parse()
	if err := run(os.Stdout, *verbose, *check, *lower, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "house:", err)
		os.Exit(1)
	}
}

func run(w io.Writer, verbose, check, lower bool, names []string) error {
	rooms, err := readRooms(".")
	if err != nil {
		return err
	}
	if check || lower {
		text, err := os.ReadFile(debtsFile)
		if err != nil {
			return err
		}
		debts, err := parseDebts(string(text))
		if err != nil {
			return err
		}
		if lower {
			return os.WriteFile(debtsFile, []byte(formatDebts(lowerDebts(debts, rooms))), 0o644)
		}
		return checkDebts(w, debts, rooms)
	}
	if len(names) > 0 {
		rooms = slices.DeleteFunc(rooms, func(r *room) bool {
			return !slices.Contains(names, r.name)
		})
	}
	printProject(w, rooms)
	printHomonyms(w, rooms)
	printRooms(w, rooms)
	if verbose {
		printOffences(w, rooms)
	}
	return nil
}

// printProject prints a line for each figure, over all rooms.
func printProject(w io.Writer, rooms []*room) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tvalue\taim\tkey\t")
	for _, f := range figures {
		var total reading
		from := ""
		for _, r := range rooms {
			got := f.measure(r)
			switch {
			case !f.largest:
				total.count += got.count
				total.of += got.of
				total.longest = max(total.longest, got.longest)
			case got.count > total.count:
				total, from = got, " ("+cmp.Or(got.note, r.name)+")"
			}
		}
		fmt.Fprintf(t, "%s\t%s%s\t%s\t%s\t\n", f.title, f.show(total), from, f.aim, f.key)
	}
	_ = t.Flush()
}

// printRooms prints a line for each room, with a column for each figure.
// A mark shows that the room is not at the aim.
func printRooms(w io.Writer, rooms []*room) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\n\t")
	for _, f := range figures {
		fmt.Fprint(t, f.key, " \t")
	}
	fmt.Fprintln(t, " room")
	for _, r := range rooms {
		fmt.Fprint(t, "\t")
		for _, f := range figures {
			got, mark := f.measure(r), " "
			if !f.isMet(got) {
				mark = "*"
			}
			fmt.Fprint(t, f.show(got), mark, "\t")
		}
		fmt.Fprintln(t, " "+r.name)
	}
	_ = t.Flush()
}

// printHomonyms prints the method names that stand for the most different things.
func printHomonyms(w io.Writer, rooms []*room) {
	types := map[string]map[string]bool{} // method → types that have it
	for _, r := range rooms {
		for _, f := range r.listFunctions() {
			name := f.decl.Name.Name
			if f.receiver == "" || f.decl.Name.IsExported() || len(f.decl.Body.List) == 0 {
				continue
			}
			if types[name] == nil {
				types[name] = map[string]bool{}
			}
			types[name][r.name+"."+f.receiver] = true
		}
	}
	var names []string
	for name := range types {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(len(types[b])-len(types[a]), strings.Compare(a, b))
	})
	fmt.Fprint(w, "methods of many types:")
	for _, name := range names[:min(maxHomonyms, len(names))] {
		fmt.Fprintf(w, " %s %d", name, len(types[name]))
	}
	fmt.Fprintln(w)
}

// printOffences prints the offences of the figures that are above their aims.
func printOffences(w io.Writer, rooms []*room) {
	for _, r := range rooms {
		for _, f := range figures {
			got := f.measure(r)
			if f.isMet(got) {
				continue
			}
			for _, o := range got.offences {
				fmt.Fprintf(w, "%s: %s (%s)\n", o.at, o.text, f.key)
			}
		}
	}
}
