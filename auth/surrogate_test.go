package auth

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLoneSurrogatesAreFound(t *testing.T) {
	for value, want := range map[string]bool{
		`"a"`:                     false,
		`"\ud83d\ude42"`:          false,
		`"\uD83D\uDE42\ud83d"`:    true,
		`"\ud83d"`:                true,
		`"\ude42"`:                true,
		`"\ude42\ud83d"`:          true,
		`"\ud83d\ud83d\ude42"`:    true,
		`"\ud83dx\ude42"`:         true,
		`"\ud83d\n"`:              true,
		`"\\ud83d"`:               false,
		`"\\\ud83d"`:              true,
		`"\ufffd"`:                false,
		`"\n\u0041\ud83d\ude42"`:  false,
		`{"\ud800":["a"]}`:        true,
		`[1,null,{"a":"\udc00"}]`: true,
	} {
		if got := HasLoneSurrogate([]byte(value)); got != want {
			t.Errorf("%s: %t, want %t", value, got, want)
		}
	}
}

// A string has a lone surrogate if encoding/json puts U+FFFD where the string has none.
func FuzzLoneSurrogates(f *testing.F) {
	f.Add(`"\ud83d\ude42"`)
	f.Add(`"\\\ud83d\u00e9"`)
	f.Fuzz(func(t *testing.T, text string) {
		var s string
		if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) ||
			strings.Contains(strings.ToLower(text), "ufffd") ||
			json.Unmarshal([]byte(text), &s) != nil {
			return
		}
		got, want := HasLoneSurrogate([]byte(text)), strings.ContainsRune(s, utf8.RuneError)
		if got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	})
}
