// Package names has the rules for the names that backends and clients choose: of users, groups,
// events and namespaces. The protos say the same rules in their own words, and package control
// holds its answers to them.
//
// It is a leaf: it imports nothing of ours. Its functions keep nothing and are safe for
// concurrent use.
package names

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

const (
	// MaxBytes is the most bytes of a name of a user, group or event.
	MaxBytes = 1024
	// MaxNamespaceBytes is the most bytes of a name of a namespace.
	MaxNamespaceBytes = 128
)

// The faults of a name. The texts never show the name: control characters have no place in a
// log line.
var (
	// ErrEmpty: the name has no bytes.
	ErrEmpty = errors.New("empty name")
	// ErrTooLong: the name or text has more bytes than its limit. The error that wraps it says
	// both numbers.
	ErrTooLong = errors.New("too long")
	// ErrNotUTF8: the bytes are not UTF-8.
	ErrNotUTF8 = errors.New("not UTF-8")
	// ErrControl: there is a character of Unicode's class Cc.
	ErrControl = errors.New("control character")
)

// Check returns nil if name is right for a user, a group or an event: 1 to MaxBytes bytes of
// UTF-8 without control characters. Errors: ErrEmpty, ErrTooLong, ErrNotUTF8, ErrControl.
func Check(name string) error {
	if name == "" {
		return ErrEmpty
	}
	return CheckText(name, MaxBytes)
}

// CheckText returns nil if text, which may be empty, has at most maxBytes bytes of UTF-8
// without control characters. Errors: ErrTooLong, ErrNotUTF8, ErrControl.
func CheckText(text string, maxBytes int) error {
	switch {
	case len(text) > maxBytes:
		return &tooLong{len(text), maxBytes}
	case !utf8.ValidString(text):
		return ErrNotUTF8
	case hasControl(text):
		return ErrControl
	}
	return nil
}

// tooLong is an ErrTooLong with its numbers.
type tooLong struct{ bytes, most int }

// Error implements error.
func (e *tooLong) Error() string {
	return fmt.Sprintf("%d bytes, want at most %d", e.bytes, e.most)
}

// Unwrap returns ErrTooLong.
func (*tooLong) Unwrap() error { return ErrTooLong }

// hasControl reports whether a UTF-8 string has a character of the class Cc. The class ends at
// U+009F, so a look at the bytes is enough: ASCII below a space, DEL, and 0xC2 with 0x80 to
// 0x9F behind it. Thousands of names may be in one request.
func hasControl(s string) bool {
	for i := range len(s) {
		switch b := s[i]; {
		case b < ' ', b == 0x7f:
			return true
		case b == 0xc2 && i+1 < len(s) && s[i+1] <= 0x9f:
			return true
		}
	}
	return false
}

// IsNamespace reports whether name is the name of a namespace: 1 to MaxNamespaceBytes of a-z,
// 0-9, '_', '.' and '-', of which the first is of a-z.
func IsNamespace(name string) bool {
	if name == "" || len(name) > MaxNamespaceBytes || !isLower(name[0]) {
		return false
	}
	for i := range len(name) {
		switch b := name[i]; {
		case isLower(b), '0' <= b && b <= '9', b == '_', b == '.', b == '-':
		default:
			return false
		}
	}
	return true
}

func isLower(b byte) bool { return 'a' <= b && b <= 'z' }
