package webpubsub

import (
	"bytes"
	"encoding/json"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/jsonparts"
)

// object iterates over the members of a JSON object, which must be valid JSON (json.Valid). Its
// results alias the JSON.
type object struct{ rest jsonparts.Parts }

// objectOf returns an iterator over value, or reports false if value is no object.
func objectOf(value []byte) (object, bool) {
	parts, ok := jsonparts.OfObject(value)
	return object{parts}, ok
}

// nextMember returns the JSON of the next name and value. It reports false at the end.
func (o *object) nextMember() (name, value []byte, ok bool) {
	name = o.rest.Next()
	if len(name) == 0 {
		return nil, nil, false
	}
	return name, o.rest.Next(), true
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
