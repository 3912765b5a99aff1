package auth

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

// FuzzPartsAgreeWithEncodingJSON compares two results with those of encoding/json: the parts of an
// object, and the values in forms that are decoded without it.
func FuzzPartsAgreeWithEncodingJSON(f *testing.F) {
	for _, object := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"sub":"ann","exp":1700000000,"aud":["a","b"]}`, `[]`, `null`,
		`7`, `"a"`, ``, `{`, `{"a":1}x`, `{"a":{"b":[1,"}",{"c":"\"]"}]} , "d" : -1.5e+3,"e":true}`,
		"{\n\t\"a\" :\r\n[ \"b\" , \"c\" ]\n}", `{"a":1,"a":2}`,
		`{"\u0061":"x","a\\":"\ud83d\ude42"}`,
		`{"a":"` + "\xff" + `","ü":"ü"}`, `{"exp":0017}`, `{"exp":999999999999999}`,
		`{"exp":1000000000000000000}`, `{"exp":1.5}`, `{"a":[1]}`, `{"a":[]}`, `{"a":["b",["c"]]}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		var want map[string]json.RawMessage
		wrong := json.Unmarshal(object, &want) != nil || want == nil
		have := map[string][]byte{}
		err := eachMember(object, func(name, value []byte) { have[string(name)] = value })
		if (err != nil) != wrong {
			t.Fatalf("error %v, want one: %v", err, wrong)
		}
		if wrong {
			return
		}
		if len(have) != len(want) {
			t.Fatalf("%d members, want %d", len(have), len(want))
		}
		for name, value := range want {
			if string(have[name]) != string(value) {
				t.Fatalf("member %q: %q, want %q", name, have[name], value)
			}
			checkPlainForms(t, value)
		}
	})
}

// checkPlainForms decodes a value with and without encoding/json, and compares the results.
func checkPlainForms(t *testing.T, value []byte) {
	t.Helper()
	if text, ok := plainText(value); ok {
		var want string
		if json.Unmarshal(value, &want) != nil || string(text) != want {
			t.Fatalf("text of %q: %q, want %q", value, text, want)
		}
	}
	if list, ok := plainList(value); ok {
		var want stringOrList
		if json.Unmarshal(value, &want) != nil || !slices.Equal(list, want) {
			t.Fatalf("list of %q: %q, want %q", value, list, want)
		}
	}
	if seconds, ok := plainSeconds(value); ok {
		var want jwt.NumericDate
		if json.Unmarshal(value, &want) != nil || seconds != want.Unix() {
			t.Fatalf("time of %q: %d, want %d", value, seconds, want.Unix())
		}
	}
}
