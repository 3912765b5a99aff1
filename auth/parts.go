package auth

import "bytes"

// parts is the rest of an object or a list, which must be valid JSON. nextPart takes its values in
// turn: of an object each name, and then its value: encoding/json would decode all of them, also
// those that the hub does not use, and check each of them once more.
type parts []byte

// partsOf returns the parts of an object, which opens with '{', or of a list, which opens with '['.
// It returns false if value does not open so.
func partsOf(value []byte, opening byte) (p parts, ok bool) {
	value = bytes.TrimLeft(value, " \t\r\n")
	if len(value) == 0 || value[0] != opening {
		return nil, false
	}
	return parts(value[1:]), true
}

// nextPart returns the next value, as a part of the whole text. It is empty at the end.
func (p *parts) nextPart() []byte {
	rest := *p
	for len(rest) > 0 && isBetweenValues(rest[0]) {
		rest = rest[1:]
	}
	n := measureValue(rest)
	*p = rest[n:]
	return rest[:n]
}

// isBetweenValues reports whether b separates values of valid JSON.
func isBetweenValues(b byte) bool {
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
		case depth == 0 && isBetweenValues(c):
			return i
		}
	}
	return len(b)
}

// measureString returns the length of the string at the start of b, with its quotes.
func measureString(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// plainText returns the text of a string that is the same in JSON: printable ASCII without escapes.
// ok is false for any different value.
func plainText(value []byte) (text []byte, ok bool) {
	if len(value) < 2 || value[0] != '"' {
		return nil, false
	}
	text = value[1 : len(value)-1]
	for _, b := range text {
		if b < ' ' || b > '~' || b == '\\' {
			return nil, false
		}
	}
	return text, true
}
