package main

import (
	"cmp"
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// unit is a function, variable or type of the tests. A type has its methods with it.
type unit struct {
	isTest     bool            // the test runner calls it
	runsBubble bool            // it calls synctest.Test, or a function that does
	isOutside  bool            // it runs outside a bubble
	uses       map[string]bool // names in it
	waits      []wait
}

// wait is a sleep or a skip.
type wait struct {
	offence
	isSkip    bool
	inLiteral bool // it is in a function literal
}

var (
	testName = regexp.MustCompile(`^(?:Test|Fuzz|Benchmark|Example)`)
	skipCall = regexp.MustCompile(`^(\w+)\.Skip(?:f|Now)?$`)
)

// measureSleeps counts sleeps and skips in tests. A sleep is in a bubble if all tests that lead to
// it run a bubble, and it is not in the plain body of such a test. A test leads to a function if it
// uses the function's name, or the name of a function that does.
func measureSleeps(r *room) (got reading) {
	units := map[string]*unit{}
	for _, f := range r.tests {
		for _, d := range f.ast.Decls {
			addUnit(units, f, d)
		}
	}
	markUnits(units)
	for _, name := range slices.Sorted(maps.Keys(units)) {
		u := units[name]
		for _, w := range u.waits {
			if w.isSkip || u.isOutside || u.isTest && !w.inLiteral {
				got.addOffence(w.at, w.text)
			}
		}
	}
	return got
}

// markUnits sets runsBubble and isOutside of all units.
func markUnits(units map[string]*unit) {
	spreadMarks(units, func(user, used *unit) bool {
		spreads := used.runsBubble && !used.isTest && !user.runsBubble
		user.runsBubble = user.runsBubble || spreads
		return spreads
	})
	for _, u := range units {
		u.isOutside = u.isTest && !u.runsBubble
	}
	spreadMarks(units, func(user, used *unit) bool {
		spreads := user.isOutside && !used.runsBubble && !used.isOutside
		used.isOutside = used.isOutside || spreads
		return spreads
	})
}

// spreadMarks calls step with each unit and each unit that it uses, until step changes nothing.
func spreadMarks(units map[string]*unit, step func(user, used *unit) bool) {
	for changed := true; changed; {
		changed = false
		for _, user := range units {
			for name := range user.uses {
				if used := units[name]; used != nil {
					changed = step(user, used) || changed
				}
			}
		}
	}
}

// addUnit adds d to its unit, and makes the unit if it is missing.
func addUnit(units map[string]*unit, f *file, d ast.Decl) {
	name, isTest := "", false
	switch d := d.(type) {
	case *ast.FuncDecl:
		name = cmp.Or(receiverType(d), d.Name.Name)
		isTest = d.Recv == nil && testName.MatchString(name)
	case *ast.GenDecl:
		if v, ok := d.Specs[0].(*ast.ValueSpec); ok {
			name = v.Names[0].Name
		}
	}
	if units[name] == nil {
		units[name] = &unit{isTest: isTest, uses: map[string]bool{}}
	}
	units[name].readDeclaration(f, d)
}

// readDeclaration adds the names, sleeps and skips in d to the unit.
func (u *unit) readDeclaration(f *file, d ast.Decl) {
	literalEnd := token.NoPos
	rapidNames := map[string]bool{} // parameters of rapid's type T, of which Skip skips no test
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			u.uses[n.Name] = true
		case *ast.FuncLit:
			literalEnd = max(literalEnd, n.End())
		case *ast.Field:
			if len(n.Names) == 1 && dottedName(n.Type) == "rapid.T" {
				rapidNames[n.Names[0].Name] = true
			}
		case *ast.CallExpr:
			name := dottedName(n.Fun)
			skip := skipCall.FindStringSubmatch(name)
			isSkip := skip != nil && !rapidNames[skip[1]]
			u.runsBubble = u.runsBubble || name == "synctest.Test"
			if isSkip || name == "time.Sleep" {
				inLiteral := n.Pos() < literalEnd
				u.waits = append(u.waits, wait{offence{f.atNode(n), name}, isSkip, inLiteral})
			}
		}
		return true
	})
}

// dottedName returns a selector or the type behind a pointer as x.Name, or "".
func dottedName(e ast.Expr) string {
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if s, ok := e.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return strings.Join([]string{x.Name, s.Sel.Name}, ".")
		}
	}
	return ""
}
