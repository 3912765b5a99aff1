package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	maxColumns = 100
	tabColumns = 4
)

var (
	anyWord   = regexp.MustCompile(`[A-Za-z]+(?:'[a-z]+)?`)
	whoWord   = regexp.MustCompile(`(?i)\b(?:who|what|whom|whoever)\b`)
	directive = regexp.MustCompile(`^//(?:go:|nolint)`)
	// unbreakable matches lines with a struct's tag or a long URL.
	unbreakable  = regexp.MustCompile("`[a-z]+:\".*`$|^//(?:go:|nolint)|https?://\\S{60}")
	somebodyWord = regexp.MustCompile(`(?i)\b(?:somebody|nobody|other|one)\b`)
	// commentLine matches a line of a script or a configuration that is a comment.
	commentLine = regexp.MustCompile(`^\s*(?:#|//|/?\*+\s)`)
)

// readProse returns the comments of f, or the text of a page without its code. The keys are numbers
// of lines. In scripts and configurations only lines count that are a comment as a whole.
func (f *file) readProse() map[int]string {
	prose := map[int]string{}
	if f.ast != nil {
		for _, group := range f.ast.Comments {
			for _, c := range group.List {
				for i, text := range strings.Split(c.Text, "\n") {
					if !directive.MatchString(text) {
						prose[f.lineOf(c.Pos())+i] = text
					}
				}
			}
		}
		return prose
	}
	inCode := false
	for i, line := range f.lines {
		text, isProse := line, true
		switch filepath.Ext(f.path) {
		case ".md":
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inCode = !inCode
			}
		case ".proto":
			_, text, isProse = strings.Cut(line, "//")
		default:
			isProse = commentLine.MatchString(line)
		}
		if isProse && !inCode {
			prose[i+1] = text
		}
	}
	return prose
}

func measureWho(r *room) reading {
	return measureWord(slices.Concat(r.code, r.texts), whoWord)
}

func measureSomebody(r *room) reading {
	return measureWord(slices.Concat(r.code, r.texts), somebodyWord)
}

func measureTestWho(r *room) reading { return measureWord(r.tests, whoWord) }

func measureTestSomebody(r *room) reading { return measureWord(r.tests, somebodyWord) }

// measureWord counts the words of prose that match.
func measureWord(files []*file, word *regexp.Regexp) (got reading) {
	for _, f := range files {
		prose := f.readProse()
		for _, line := range slices.Sorted(maps.Keys(prose)) {
			got.of += len(anyWord.FindAllString(prose[line], -1))
			for range word.FindAllString(prose[line], -1) {
				got.addOffence(f.atLine(line), strings.TrimSpace(prose[line]))
			}
		}
	}
	return got
}

// measureLongComments counts lines with a comment that are too long. Pages are left out: a row of a
// table cannot be broken.
func measureLongComments(r *room) (got reading) {
	for _, f := range slices.Concat(r.code, r.texts) {
		if strings.HasSuffix(f.path, ".md") {
			continue
		}
		prose := f.readProse()
		for _, line := range slices.Sorted(maps.Keys(prose)) {
			got.of++
			if n := countColumns(f.lines[line-1]); n > maxColumns {
				got.addOffence(f.atLine(line), fmt.Sprintf("%d columns", n))
				got.longest = max(got.longest, n)
			}
		}
	}
	return got
}

// measureLongLines counts lines of Go that are too long, with comments and tests.
func measureLongLines(r *room) (got reading) {
	for _, f := range slices.Concat(r.code, r.tests) {
		for i, line := range f.lines {
			if n := countColumns(line); n > maxColumns && !unbreakable.MatchString(line) {
				got.addOffence(f.atLine(i+1), fmt.Sprintf("%d columns", n))
			}
		}
	}
	return got
}

// countColumns returns how wide a line is. Tabs are at its beginning.
func countColumns(line string) int {
	return utf8.RuneCountInString(line) + (tabColumns-1)*strings.Count(line, "\t")
}
