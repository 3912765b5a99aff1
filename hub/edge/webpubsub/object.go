package webpubsub

import (
	"bytes"
	"encoding/json"

	"github.com/connhub/connhub/auth"
)

// object iterates over the members of a JSON object. The JSON must be valid: json.Valid was called
// on it before, and object checks nothing again. It copies nothing; all results alias the JSON.
type object struct {
	rest []byte // from the next member on
}

// objectOf returns an iterator over value, or reports false if value is no object. value must be
// valid JSON.
func objectOf(value []byte) (object, bool) {
	value = skipSeparators(value)
	if value[0] != '{' {
		return object{}, false
	}
	return object{value[1:]}, true
}

// skipSeparators skips blanks, commas and colons. In valid JSON a further character always follows.
func skipSeparators(b []byte) []byte {
	for b[0] <= ' ' || b[0] == ',' || b[0] == ':' {
		b = b[1:]
	}
	return b
}

// nextMember returns the JSON of the next name and value. It reports false at the end.
func (o *object) nextMember() (name, value []byte, ok bool) {
	o.rest = skipSeparators(o.rest)
	if o.rest[0] == '}' {
		return nil, nil, false
	}
	return o.takeValue(), o.takeValue(), true
}

func (o *object) takeValue() []byte {
	o.rest = skipSeparators(o.rest)
	n := valueLength(o.rest)
	value := o.rest[:n:n]
	o.rest = o.rest[n:]
	return value
}

// valueLength returns the length of the JSON value at the start of b. The rest of its object must
// follow.
func valueLength(b []byte) int {
	switch b[0] {
	case '"':
		return stringLength(b)
	case '{', '[':
		return nestedLength(b)
	default: // a number, true, false, null
		n := 1
		for b[n] > ' ' && b[n] != ',' && b[n] != '}' {
			n++
		}
		return n
	}
}

// stringLength finds the first quote that no backslash escapes.
func stringLength(b []byte) int {
	for i := 1; ; i++ {
		i += bytes.IndexByte(b[i:], '"')
		escapes := 0
		for b[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i + 1
		}
	}
}

func nestedLength(b []byte) int {
	depth := 0
	for i := 0; ; {
		switch b[i] {
		case '"':
			i += stringLength(b[i:])
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		i++
		if depth == 0 {
			return i
		}
	}
}

// unquoteString decodes a JSON string. It reports false for a value of a different type, and for a
// string that escapes half of a surrogate pair: that is no character (RFC 8259 §8.2), and
// encoding/json would decode it to U+FFFD. The result may alias value.
func unquoteString(value []byte) ([]byte, bool) {
	if value[0] != '"' {
		return nil, false
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], true
	}
	var s string
	if auth.HasLoneSurrogate(value) || json.Unmarshal(value, &s) != nil {
		return nil, false
	}
	return []byte(s), true
}
