package jsonappend_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/edge/jsonappend"
)

func FuzzStringsAreReadBack(f *testing.F) {
	for _, s := range []string{
		"", "plain", "\"\\\x00\n\r\t\x1f\x7f", "é🙂\u2028", "\xff\xc0\x80 cut \xe2\x82",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var got map[string]string
		b := jsonappend.StringMap(nil, map[string]string{s: s})
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		// Map writes a U+FFFD for each byte that is not UTF-8.
		clean := strings.Map(func(r rune) rune { return r }, s)
		if diff := cmp.Diff(map[string]string{clean: clean}, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMapIsSorted(t *testing.T) {
	got := jsonappend.StringMap([]byte("x"), map[string]string{"b": "2", "a": "1"})
	if string(got) != `x{"a":"1","b":"2"}` {
		t.Errorf("got %s", got)
	}
	if got := jsonappend.StringMap(nil, nil); string(got) != "{}" {
		t.Errorf("empty: %s", got)
	}
}
