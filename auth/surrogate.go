package auth

import (
	"bytes"
	"strconv"
	"unicode/utf16"
)

// escapeLen is the length of `\uXXXX`.
const escapeLen = 6

// HasLoneSurrogate reports whether a valid JSON value escapes half of a UTF-16 surrogate pair without the other half (RFC 8259 §8.2).
// Such an escape is no character. encoding/json decodes it to U+FFFD, so that two names which differ there would become one.
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
			value = value[2:] // as \n or \\
		case !utf16.IsSurrogate(first):
			value = value[escapeLen:]
		default:
			second, _ := unicodeEscape(value[escapeLen:])
			if utf16.DecodeRune(first, second) == '\uFFFD' { // what it returns for no pair, and for no pair only
				return true
			}
			value = value[2*escapeLen:]
		}
	}
}

// unicodeEscape returns what the `\uXXXX` at the start of b stands for, and reports false if there is none.
func unicodeEscape(b []byte) (rune, bool) {
	if len(b) < escapeLen || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:escapeLen]), 16, 16)
	return rune(n), err == nil
}
