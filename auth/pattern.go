package auth

import (
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/connhub/connhub/internal/names"
)

// maxStars is the limit of `*` in a pattern; `**` counts as two. It is Web PubSub's limit.
const maxStars = 5

// maxSteps limits the steps of all patterns of a token together, and so the work of a permission
// check: a step costs a pass over the name, which has at most names.MaxBytes bytes. The limit
// allows 16 steps for each of MaxRoles roles.
const maxSteps = 16 * MaxRoles

// separator divides a group's name into levels. `?` and `*` do not match it.
const separator = '.'

// pattern matches names of groups:
//
//   - `?` matches a single character, but not a dot
//   - `*` matches any number of characters without a dot
//   - `**` matches any number of characters, dots too
//   - `\` makes the next `\`, `*` or `?` a plain character
//
// Problem: names come from strangers. For some names, a matcher that tries the alternatives in turn
// and backtracks needs exponential time.
//
// Outline: follow all alternatives at once. After each step of the pattern, place i is reached if
// the steps so far can match the first i bytes of the name. So the cost is at most the length of
// the name times the number of steps. A `?` costs less: it shifts a few words of bits.
type pattern []step

// step is a part of a pattern: a run of plain characters or a wildcard.
type step struct {
	literal string // the characters; empty: a wildcard
	kind    stepKind
}

type stepKind uint8

const (
	stepLiteral stepKind = iota
	stepOne              // ?
	stepWithin           // *
	stepAny              // **
)

// parsePattern returns the pattern, or the problem with the text if that is not empty.
func parsePattern(text string) (p pattern, problem string) {
	var literal strings.Builder
	addWildcard := func(kind stepKind) {
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
				return nil, `a \ that is not followed by \, * or ?`
			}
			literal.WriteByte(text[i])
		case '?':
			addWildcard(stepOne)
		case '*':
			stars++
			if i+1 < len(text) && text[i+1] == '*' {
				stars++
				i++
				addWildcard(stepAny)
			} else {
				addWildcard(stepWithin)
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

// matchesName reports whether the pattern matches the whole name, which must be UTF-8. It allocates
// nothing.
func (p pattern) matchesName(name string) bool {
	if len(name) > names.MaxBytes || len(p) > 0 && !strings.HasPrefix(name, p[0].literal) {
		return false // the usual case
	}
	var reached, ends, inner places
	reached.addPlace(0)
	ends.addPlace(len(name))
	for i := range len(name) {
		if name[i] == separator {
			ends.addPlace(i)
		}
		if !utf8.RuneStart(name[i]) {
			inner.addPlace(i)
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
	return reached.hasPlace(len(name))
}

// places is a set of places in a name. Bit i is the place after the first i bytes.
type places [names.MaxBytes/64 + 1]uint64

func (p *places) addPlace(i int)      { p[i/64] |= 1 << (i % 64) }
func (p *places) hasPlace(i int) bool { return p[i/64]>>(i%64)&1 != 0 }

// overLiteral moves each reached place past the literal if the name continues with it there, and
// removes the place if not.
func (p *places) overLiteral(name, literal string) {
	var moved places
	for w, word := range p {
		for ; word != 0; word &= word - 1 {
			if i := w*64 + bits.TrailingZeros64(word); strings.HasPrefix(name[i:], literal) {
				moved.addPlace(i + len(literal))
			}
		}
	}
	*p = moved
}

// overOne moves each reached place past a character. ends has the places without a next character
// that `?` matches: those before a separator and the end of the name. inner has the places within a
// character.
func (p *places) overOne(ends, inner *places) {
	for w := range p {
		p[w] &^= ends[w]
	}
	p.shiftPlaces(nil)
	for range utf8.UTFMax - 1 {
		p.shiftPlaces(inner)
	}
}

// shiftPlaces moves the places in only by a byte, or all places if only is nil.
func (p *places) shiftPlaces(only *places) {
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

// overWithin adds, for each reached place, the places up to the next separator.
func (p *places) overWithin(name string, inner *places) {
	reached := false
	for i := range len(name) + 1 {
		if inner.hasPlace(i) {
			continue
		}
		if reached = reached || p.hasPlace(i); reached {
			p.addPlace(i)
		}
		reached = reached && i < len(name) && name[i] != separator
	}
}

// overAny adds all places after the first reached place.
func (p *places) overAny(size int, inner *places) {
	reached := false
	for i := range size + 1 {
		if reached = reached || p.hasPlace(i); reached && !inner.hasPlace(i) {
			p.addPlace(i)
		}
	}
}
