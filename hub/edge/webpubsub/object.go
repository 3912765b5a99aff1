package webpubsub

import (
	"bytes"
	"encoding/json"

	"github.com/connhub/connhub/auth"
)

// object walks over the members of a JSON object, and leaves their values as they are. encoding/json has found it valid before: nothing is
// checked again, and nothing is copied.
type object struct{ rest []byte }

// objectOf reports false for a JSON value that is no object.
func objectOf(value []byte) (object, bool) {
	value = skip(value)
	if value[0] != '{' {
		return object{}, false
	}
	return object{value[1:]}, true
}

// skip leaves out blanks and separators. Something else always follows.
func skip(b []byte) []byte {
	for b[0] <= ' ' || b[0] == ',' || b[0] == ':' {
		b = b[1:]
	}
	return b
}

// next returns the next member, name and value as they stand there. It reports false at the end.
func (o *object) next() (name, value []byte, ok bool) {
	o.rest = skip(o.rest)
	if o.rest[0] == '}' {
		return nil, nil, false
	}
	return o.take(), o.take(), true
}

func (o *object) take() []byte {
	o.rest = skip(o.rest)
	n := valueLength(o.rest)
	value := o.rest[:n:n]
	o.rest = o.rest[n:]
	return value
}

// valueLength returns the length of the value at the start of b, behind which an object goes on or ends.
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

// unquote returns what a JSON string stands for. It reports false for any other value, and for a string with an escaped surrogate that has no
// partner: that is no character (RFC 8259 §8.2), and encoding/json would put U+FFFD in its place. The result may be part of the value.
func unquote(value []byte) ([]byte, bool) {
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
