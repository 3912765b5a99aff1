// Package jsonparts takes an object or a list in JSON apart, without decoding its values.
// encoding/json would decode all of them, also values that are not used, and check each of them
// once more.
package jsonparts

import "bytes"

// Parts is the rest of an object or a list. Its text must be valid JSON (json.Valid). For any
// different text the parts mean nothing, but reading them ends and does not panic. All parts are
// slices of the text.
type Parts []byte

// OfObject returns the parts of an object: the first name, its value, the second name, and so on.
// It returns false if value is no object.
func OfObject(value []byte) (Parts, bool) { return partsOf(value, '{') }

// OfList returns the parts of a list: its elements. It returns false if value is no list.
func OfList(value []byte) (Parts, bool) { return partsOf(value, '[') }

func partsOf(value []byte, opening byte) (Parts, bool) {
	value = skipSeparators(value)
	if len(value) == 0 || value[0] != opening {
		return nil, false
	}
	return Parts(value[1:]), true
}

// Next returns the next part. It is empty at the end.
func (p *Parts) Next() []byte {
	rest := skipSeparators(*p)
	n := measureValue(rest)
	*p = Parts(rest[n:])
	return rest[:n:n]
}

func skipSeparators(b []byte) []byte {
	for len(b) > 0 && isSeparator(b[0]) {
		b = b[1:]
	}
	return b
}

// isSeparator reports whether b separates the values of valid JSON.
func isSeparator(b byte) bool {
	switch b {
	case ' ', '\t', '\r', '\n', ',', ':':
		return true
	default:
		return false
	}
}

// measureValue returns the length of the value at the start of b, or 0 if b ends there, or the
// object or list that the value would be in.
func measureValue(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			i += measureString(b[i:]) - 1
			if depth == 0 {
				return i + 1
			}
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case depth == 0 && isSeparator(c):
			return i
		}
	}
	return len(b)
}

// measureString returns the length of the string at the start of b, with its quotes: up to the
// first quote that no backslash escapes.
func measureString(b []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return len(b)
		}
		i += n
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}
