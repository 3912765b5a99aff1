package auth

import (
	"strings"
	"unicode/utf8"
)

// maxStars is the most `*` in a pattern, those of `**` counted as two. It is Web PubSub's limit.
const maxStars = 5

// separator parts the levels of a group's name: `?` and `*` stay within one.
const separator = '.'

// pattern matches names of groups: `?` is one character, `*` any number of them, neither with a dot; `**` is any number
// of any; `\` takes the special meaning from `\`, `*` or `?`.
//
// Problem: names come from strangers, and a matcher that tries one way after the other needs exponential time for some.
//
// Outline: all ways at once. After each step of the pattern, reached[i] says whether the steps so far can match the first
// i bytes of the name. So a name costs its length times the number of steps at most.
type pattern []step

// step is a part of a pattern: a text if literal is not empty.
type step struct {
	literal string
	kind    stepKind
}

type stepKind uint8

const (
	stepLiteral stepKind = iota
	stepOne
	stepWithin // *
	stepAny    // **
)

// parsePattern returns what is wrong with a pattern; empty: nothing.
func parsePattern(text string) (pattern, string) {
	var p pattern
	var literal strings.Builder
	special := func(kind stepKind) {
		if literal.Len() > 0 {
			p = append(p, step{literal: literal.String()})
			literal.Reset()
		}
		p = append(p, step{kind: kind})
	}
	stars := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\\':
			i++
			if i == len(text) || !strings.ContainsRune(`\*?`, rune(text[i])) {
				return nil, `a \ that is not before \, * or ?`
			}
			literal.WriteByte(text[i])
		case '?':
			special(stepOne)
		case '*':
			stars++
			if i+1 < len(text) && text[i+1] == '*' {
				stars++
				i++
				special(stepAny)
			} else {
				special(stepWithin)
			}
		default:
			literal.WriteByte(c)
		}
	}
	if stars > maxStars {
		return nil, "more than five *"
	}
	if literal.Len() > 0 {
		p = append(p, step{literal: literal.String()})
	}
	return p, ""
}

// matches tells whether the whole name, which is UTF-8, is what the pattern says.
func (p pattern) matches(name string) bool {
	if len(p) > 0 && !strings.HasPrefix(name, p[0].literal) {
		return false // as nearly always, and without memory
	}
	reached := make([]bool, len(name)+1)
	reached[0] = true
	for _, s := range p {
		switch s.kind {
		case stepLiteral:
			s.overLiteral(name, reached)
		case stepOne:
			overOne(name, reached)
		case stepWithin, stepAny:
			for i := range name { // the beginnings of characters; a star ends at the end of one
				end := i + runeLen(name[i:])
				reached[end] = reached[end] || reached[i] && (s.kind == stepAny || name[i] != separator)
			}
		}
	}
	return reached[len(name)]
}

// overLiteral moves each place that was reached behind the literal, if it stands there. From the end, so that what is
// read is still of the step before.
func (s step) overLiteral(name string, reached []bool) {
	n := len(s.literal)
	for end := len(name); end >= 0; end-- {
		reached[end] = end >= n && reached[end-n] && name[end-n:end] == s.literal
	}
}

// overOne moves each place that was reached behind one character other than the separator.
func overOne(name string, reached []bool) {
	for end := len(name); end > 0; {
		_, size := utf8.DecodeLastRuneInString(name[:end])
		reached[end] = reached[end-size] && name[end-size] != separator
		end -= size
	}
	reached[0] = false
}

func runeLen(s string) int {
	_, size := utf8.DecodeRuneInString(s)
	return size
}
