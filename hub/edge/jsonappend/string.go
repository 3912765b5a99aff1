package jsonappend

import (
	"encoding/base64"
	"maps"
	"slices"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// replacement is U+FFFD. It replaces each byte that is not UTF-8.
const replacement = `\ufffd`

// String appends s as a JSON string (§7). It escapes only quotes, backslashes and control
// characters.
func String[S string | []byte](b []byte, s S) []byte {
	b = append(b, '"')
	start := 0 // bytes from here on are not copied yet
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			_, size := decodeRune(s[i:])
			if size == 0 {
				b = append(append(b, s[start:i]...), replacement...)
				i++
				start = i
				continue
			}
			i += size
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		b = appendEscape(append(b, s[start:i]...), c)
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

// Base64 appends data as a string in base64 with padding (RFC 4648 §4).
func Base64(b, data []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), data), '"')
}

// StringMap appends m as an object of strings. It sorts the names, so equal maps give equal bytes.
func StringMap(b []byte, m map[string]string) []byte {
	if len(m) == 0 {
		return append(b, "{}"...)
	}
	separator := byte('{')
	for _, name := range slices.Sorted(maps.Keys(m)) {
		b = String(append(b, separator), name)
		b = String(append(b, ':'), m[name])
		separator = ','
	}
	return append(b, '}')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
	}
}

// decodeRune returns the first character of s and its size in bytes. The size is 0 if s does not
// begin with UTF-8.
func decodeRune[S string | []byte](s S) (rune, int) {
	var head [utf8.UTFMax]byte
	n := copy(head[:], s)
	r, size := utf8.DecodeRune(head[:n])
	if r == utf8.RuneError && size == 1 {
		return r, 0
	}
	return r, size
}
