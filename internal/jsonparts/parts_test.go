package jsonparts

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzPartsAgreeWithEncodingJSON compares the parts of objects and lists with the results of
// encoding/json. Reading the parts of any further text ends.
func FuzzPartsAgreeWithEncodingJSON(f *testing.F) {
	for _, text := range []string{
		`{}`, ` { } `, `[]`, `null`, `7`, `"a"`, ``, `{`, `[`, `{"a`, `{"a\`, `["\\"`, `{"a":1}x`,
		`{"a":1,"b":"c","d":[1,2]}`, `{"a":{"b":[1,"}",{"c":"\"]"}]} , "d" : -1.5e+3,"e":true}`,
		"{\n\t\"a\" :\r\n[ \"b\" , \"c\" ]\n}", `{"a":1,"a":2}`, `["a\\","\\\"",{"b":[]},null]`,
		`{"\u0061":"x","a\\":"\ud83d\ude42"}`, "{\"a\":\"\xff\"}", `[[[]],{}]`, `}`, `]"`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		object, isObject := OfObject(text)
		list, isList := OfList(text)
		names, elements := takeAll(t, object, len(text)), takeAll(t, list, len(text))
		if !json.Valid(text) {
			return
		}
		var wantNames map[string]json.RawMessage
		var wantElements []json.RawMessage
		trimmed := bytes.TrimLeft(text, " \t\r\n")
		if isObject != (trimmed[0] == '{') || isList != (trimmed[0] == '[') {
			t.Fatalf("%q: object %t, list %t", text, isObject, isList)
		}
		switch {
		case isObject:
			if err := json.Unmarshal(text, &wantNames); err != nil {
				t.Fatal(err)
			}
			checkMembers(t, names, wantNames)
		case isList:
			if err := json.Unmarshal(text, &wantElements); err != nil {
				t.Fatal(err)
			}
			if len(elements) != len(wantElements) {
				t.Fatalf("%d elements, want %d", len(elements), len(wantElements))
			}
			for i, want := range wantElements {
				if !bytes.Equal(elements[i], want) {
					t.Fatalf("element %d: %q, want %q", i, elements[i], want)
				}
			}
		}
	})
}

// takeAll takes all parts, of which a text has at most as many as bytes.
func takeAll(t *testing.T, p Parts, most int) (all [][]byte) {
	t.Helper()
	for part := p.Next(); len(part) > 0; part = p.Next() {
		if all = append(all, part); len(all) > most {
			t.Fatalf("more than %d parts", most)
		}
	}
	return all
}

// checkMembers compares names and values in turn with the members of an object. Of members with the
// same name the last counts.
func checkMembers(t *testing.T, parts [][]byte, want map[string]json.RawMessage) {
	t.Helper()
	if len(parts)%2 != 0 {
		t.Fatalf("%d parts: a name has no value", len(parts))
	}
	have := make(map[string][]byte)
	for i := 0; i < len(parts); i += 2 {
		var name string
		if err := json.Unmarshal(parts[i], &name); err != nil {
			t.Fatalf("name %q: %v", parts[i], err)
		}
		have[name] = parts[i+1]
	}
	if len(have) != len(want) {
		t.Fatalf("%d members, want %d", len(have), len(want))
	}
	for name, value := range want {
		if !bytes.Equal(have[name], value) {
			t.Fatalf("member %q: %q, want %q", name, have[name], value)
		}
	}
}
