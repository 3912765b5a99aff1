package auth

import (
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/connhub/connhub/internal/names"
)

// maxStars is the most `*` in a pattern, those of `**` counted as two. It is Web PubSub's limit.
const maxStars = 5

// maxSteps bounds the steps of all patterns of one token together, and so the work of a
// permission check: a step costs a pass over the name, at most names.MaxBytes long. It leaves 16
// steps for each of MaxRoles roles.
const maxSteps = 16 * MaxRoles

// separator parts the levels of a group's name: `?` and `*` stay within one.
const separator = '.'

// pattern matches names of groups: `?` is one character, `*` any number of them, neither with a dot; `**` is any number
// of any; `\` takes the special meaning from `\`, `*` or `?`.
//
// Problem: names come from strangers, and a matcher that tries one way after the other needs exponential time for some.
//
// Outline: all ways at once. After each step of the pattern, place i is reached if the steps so far can match the first
// i bytes of the name. So a name costs its length times the number of steps at most, and a `?` a few words of bits.
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

// matches tells whether the whole name, which is UTF-8, is what the pattern says. It needs no memory.
func (p pattern) matches(name string) bool {
	if len(name) > names.MaxBytes || len(p) > 0 && !strings.HasPrefix(name, p[0].literal) {
		return false // as nearly always
	}
	var reached, ends, inner places
	reached.add(0)
	ends.add(len(name))
	for i := range len(name) {
		if name[i] == separator {
			ends.add(i)
		}
		if !utf8.RuneStart(name[i]) {
			inner.add(i)
		}
	}
	for _, s := range p {
		switch s.kind {
		case stepLiteral:
			reached.overLiteral(name, s.literal)
		case stepOne:
			reached.overOne(&ends, &inner)
		case stepWithin:
			reached.overWithin(name, &inner)
		case stepAny:
			reached.overAny(len(name), &inner)
		}
	}
	return reached.has(len(name))
}

// places is a set of places in a name: bit i stands behind its first i bytes.
type places [names.MaxBytes/64 + 1]uint64

func (p *places) add(i int)      { p[i/64] |= 1 << (i % 64) }
func (p *places) has(i int) bool { return p[i/64]>>(i%64)&1 != 0 }

// overLiteral moves each place that was reached behind the literal, if it stands there.
func (p *places) overLiteral(name, literal string) {
	var moved places
	for w, word := range p {
		for ; word != 0; word &= word - 1 {
			if i := w*64 + bits.TrailingZeros64(word); strings.HasPrefix(name[i:], literal) {
				moved.add(i + len(literal))
			}
		}
	}
	*p = moved
}

// overOne moves each place that was reached behind one character. ends has the places from which there is none: before a separator, and at the
// end of the name. inner has those within a character.
func (p *places) overOne(ends, inner *places) {
	for w := range p {
		p[w] &^= ends[w]
	}
	p.shift(nil)
	for range utf8.UTFMax - 1 {
		p.shift(inner)
	}
}

// shift moves the places in only, or all if it is nil, by one byte.
func (p *places) shift(only *places) {
	var carry uint64
	for w, word := range p {
		moving := word
		if only != nil {
			moving &= only[w]
		}
		p[w] = word&^moving | moving<<1 | carry
		carry = moving >> 63
	}
}

// overWithin adds to each place that was reached those up to the next separator.
func (p *places) overWithin(name string, inner *places) {
	reached := false
	for i := range len(name) + 1 {
		if inner.has(i) {
			continue
		}
		if reached = reached || p.has(i); reached {
			p.add(i)
		}
		reached = reached && i < len(name) && name[i] != separator
	}
}

// overAny adds all places behind the first one that was reached.
func (p *places) overAny(size int, inner *places) {
	reached := false
	for i := range size + 1 {
		if reached = reached || p.has(i); reached && !inner.has(i) {
			p.add(i)
		}
	}
}
