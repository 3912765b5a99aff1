package auth

import (
	"bytes"
	"strconv"
	"unicode/utf16"
)

// escapeLen is the length of `\uXXXX`.
const escapeLen = 6

// HasLoneSurrogate reports whether a valid JSON value escapes half of a UTF-16 surrogate pair
// without its counterpart (RFC 8259 §8.2). Such an escape is no character. encoding/json decodes it
// to U+FFFD, so that names which differ only in it would become equal.
func HasLoneSurrogate(value []byte) bool {
	for {
		i := bytes.IndexByte(value, '\\')
		if i < 0 {
			return false
		}
		value = value[i:]
		first, isEscape := unicodeEscape(value)
		switch {
		case !isEscape:
			value = value[2:] // a short escape, such as \n or \\
		case !utf16.IsSurrogate(first):
			value = value[escapeLen:]
		default:
			second, _ := unicodeEscape(value[escapeLen:])
			if utf16.DecodeRune(first, second) == '\uFFFD' { // they are not a pair
				return true
			}
			value = value[2*escapeLen:]
		}
	}
}

// unicodeEscape returns the code unit of the `\uXXXX` at the start of b. It reports false if b does
// not start with such an escape.
func unicodeEscape(b []byte) (rune, bool) {
	if len(b) < escapeLen || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:escapeLen]), 16, 16)
	return rune(n), err == nil
}
