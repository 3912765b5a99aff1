package auth

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/jsonparts"
)

// segmentEncoding is that of the segments of a token (RFC 7515 §2). It is strict: a token has a
// single spelling.
var segmentEncoding = base64.RawURLEncoding.Strict()

// tokenSegments are the three segments of a token, decoded, in the compact form (RFC 7515 §7.1).
type tokenSegments struct {
	header, payload, signature []byte
	signed                     string // the text that the signature is of
}

// splitToken decodes the segments of a token. It returns jwt.ErrTokenMalformed if there are not
// three, or a segment is not base64.
func splitToken(token string) (s tokenSegments, err error) {
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, found := strings.Cut(rest, ".")
	if !found || strings.Contains(signature, ".") {
		return s, jwt.ErrTokenMalformed
	}
	s.signed = token[:len(header)+1+len(payload)]
	for _, segment := range []struct {
		text string
		to   *[]byte
	}{{header, &s.header}, {payload, &s.payload}, {signature, &s.signature}} {
		*segment.to, err = segmentEncoding.DecodeString(segment.text)
		if err != nil || strings.ContainsAny(segment.text, "\r\n") { // which base64 leaves out
			return s, jwt.ErrTokenMalformed
		}
	}
	return s, nil
}

// tokenHeader has the parameters of a token's header (RFC 7515 §4.1) that Tokens looks at.
type tokenHeader struct {
	algorithm string // `alg`; "" also if it is no string
	keyID     string // `kid`; the same
	critical  bool   // there is a `crit`
}

// parseHeader decodes a header. Of parameters with the same name the last counts.
func parseHeader(header []byte) (h tokenHeader, err error) {
	err = eachMember(header, func(name, value []byte) {
		switch string(name) {
		case "alg":
			h.algorithm = stringOf(value)
		case "kid":
			h.keyID = stringOf(value)
		case "crit":
			h.critical = true
		}
	})
	return h, err
}

// eachMember calls do with the name and the value of each member of an object, in their order. The
// name is decoded, the value is a part of the object. It returns jwt.ErrTokenMalformed if object is
// not an object in JSON.
func eachMember(object []byte, do func(name, value []byte)) error {
	members, ok := jsonparts.OfObject(object)
	if !ok || !json.Valid(object) {
		return jwt.ErrTokenMalformed
	}
	for {
		name := members.Next()
		if len(name) == 0 {
			return nil
		}
		value := members.Next()
		if text, ok := plainText(name); ok {
			do(text, value)
		} else {
			do([]byte(stringOf(name)), value)
		}
	}
}

// stringOf returns the text of a string in valid JSON, or "" for any different value.
func stringOf(value []byte) (s string) {
	if text, ok := plainText(value); ok {
		return string(text)
	}
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
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
