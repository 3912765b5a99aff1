package main

import (
	"strings"
	"testing"
)

// newRoom makes a room of Go files: texts by name.
func newRoom(t *testing.T, texts map[string]string) *room {
	t.Helper()
	r := &room{name: "p"}
	for name, text := range texts {
		f, err := parseFile(name, text)
		if err != nil {
			t.Fatal(err)
		}
		r.addFile(f)
	}
	return r
}

// measure returns the reading of a figure.
func measure(t *testing.T, key string, r *room) reading {
	t.Helper()
	for _, f := range figures {
		if f.key == key {
			return f.measure(r)
		}
	}
	t.Fatalf("there is no figure %q", key)
	return reading{}
}

var wide = strings.Repeat("x", 90)

func TestFiguresCountWhatTheyName(t *testing.T) {
	tests := map[string]struct {
		key, name, text string
		count, of       int
	}{
		"one word": {
			"one-word", "a.go",
			"func take() {}\n" +
				"func takeTLS1Key() {}\n" +
				"func main() {}\n" +
				"func (T) Close() {}",
			1, 2,
		},
		"words missing to two": {
			"short-of-two", "a.go",
			"func a() {}\n" +
				"func b() {}\n" +
				"func parseHTTPHeader() {}",
			1, 3,
		},
		"who in a comment": {
			"who", "a.go",
			"// Who knows what they do.\nvar who = 1",
			2, 5,
		},
		"who in a string": {"who", "a.go", "var s = `who`", 0, 0},
		"who in a test":   {"who", "a_test.go", "// Who knows.", 0, 0},
		"who of a test":   {"test-who", "a_test.go", "// Who knows.", 1, 2},
		"nobody of tests": {"test-somebody", "a_test.go", "// Nobody waits.", 1, 2},
		"who in a page":   {"who", "a.md", "who knows\n```\nwho\n```\n", 1, 2},
		"who in a proto":  {"who", "a.proto", "string who = 1; // who knows", 1, 2},
		"who in a script": {"who", "Makefile", "# Who knows.\nwho: ## who\n\twho", 1, 2},
		"who in YAML":     {"who", "a.yaml", "a:\n  # Who knows.\n  who: *who", 1, 2},
		"who in a module": {"who", "a.mjs", "/** Who knows. */\n * who\n// who\nwho()", 3, 4},
		"nobody":          {"somebody", "a.go", "// Nobody waits for another one.", 2, 5},
		"100 columns": {
			"long-comments", "a.go",
			"func f() {\n\t//" + wide + "xxxx\n}",
			0, 1,
		},
		"101 columns": {
			"long-comments", "a.go",
			"func f() {\n\t//" + wide + "xxxxx\n}",
			1, 1,
		},
		"a long test": {"long-lines", "a_test.go", "var " + wide + "xxxxx = 1", 1, 0},
		"a long tag": {
			"long-lines", "a.go",
			"type T struct {\n\tA int `help:\"" + wide + "\"`\n}",
			0, 0,
		},
		"exported": {
			"exported", "a.go",
			"const A, b = 1, 2\ntype C int\n" +
				"func (C) D() {}\n" +
				"func E() {}",
			3, 0,
		},
		"lines of code": {"code", "a.go", "\n// A comment.\nvar a = 1 // a\n", 2, 0},
		"methods": {
			"methods", "a.go",
			"func (A) b() {}\n" +
				"func (a *A) c() {}\n" +
				"func (B) d() {}",
			2, 0,
		},
		"undocumented": {
			"undocumented", "a.go",
			"type A struct {\n\tB int\n\tC int // c\n\td int\n}",
			1, 2,
		},
		"a sleep": {"sleeps", "a_test.go", "func TestA() { time.Sleep(1) }", 1, 0},
		"a sleep of a helper": {
			"sleeps", "a_test.go",
			"func TestA() { b() }\n" +
				"func b() { time.Sleep(1) }",
			1, 0,
		},
		"a sleep in a bubble": {
			"sleeps", "a_test.go",
			"func TestA() { synctest.Test(t, func() { time.Sleep(1) }) }",
			0, 0,
		},
		"a sleep before a bubble": {
			"sleeps", "a_test.go",
			"func TestA() {\n\ttime.Sleep(1)\n\tsynctest.Test(t, b)\n}",
			1, 0,
		},
		"a sleep in both": {
			"sleeps", "a_test.go",
			"func TestA() { b() }\n" +
				"func TestB() { synctest.Test(t, b) }\n" +
				"func b() { time.Sleep(1) }",
			1, 0,
		},
		"a bubble of a helper": {
			"sleeps", "a_test.go",
			"func TestA() { b(func() { time.Sleep(1) }) }\n" +
				"func b(f func()) { synctest.Test(t, f) }",
			0, 0,
		},
		"a skip": {
			"sleeps", "a_test.go",
			"func TestA() { synctest.Test(t, func() { t.Skip() }) }",
			1, 0,
		},
		"a sample that is skipped": {
			"sleeps", "a_test.go",
			"func TestA() { rapid.Check(t, func(r *rapid.T) { r.Skip() }) }",
			0, 0,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			text := tt.text
			if strings.HasSuffix(tt.name, ".go") {
				text = "package p\n" + text
			}
			got := measure(t, tt.key, newRoom(t, map[string]string{tt.name: text}))
			if got.count != tt.count || got.of != tt.of {
				t.Errorf("%d of %d, want %d of %d: %v", got.count, got.of, tt.count, tt.of, got)
			}
		})
	}
}

// TestADebtMayOnlyFall holds the ratchet: the failures of the check, and the lowered list.
func TestADebtMayOnlyFall(t *testing.T) {
	line := "// " + wide + "xxxxxxxxx\n"
	rooms := []*room{newRoom(t, map[string]string{"a.go": "package p\n\n" + line + line})}
	for name, tt := range map[string]struct{ list, said, lowered string }{
		"not listed": {"", "p: long-comments=2 is above the aim", ""},
		"as listed": {
			"p long-comments=2 long-lines=2",
			"",
			"p long-comments=2 long-lines=2\n",
		},
		"better": {
			"p long-comments=3 long-lines=2",
			"",
			"p long-comments=2 long-lines=2\n",
		},
		"worse": {
			"p long-comments=1 long-lines=2",
			"p: long-comments=2 is above the listed 1",
			"p long-comments=1 long-lines=2\n",
		},
		"at the aim": {
			"p long-comments=2 long-lines=2 who=3",
			"p: who is at its aim",
			"p long-comments=2 long-lines=2\n",
		},
		"no such room": {
			"p long-comments=2 long-lines=2\nq who=1",
			"q: there is no such room",
			"p long-comments=2 long-lines=2\n",
		},
		"comments, no room": {
			"# a\n\np long-comments=2 long-lines=2",
			"",
			"p long-comments=2 long-lines=2\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := parseDebts(tt.list)
			if err != nil {
				t.Fatal(err)
			}
			var said strings.Builder
			err = checkDebts(&said, list, rooms)
			if (err != nil) != (tt.said != "") || !strings.Contains(said.String(), tt.said) {
				t.Errorf("%v, want %q:\n%s", err, tt.said, said.String())
			}
			if got := formatDebts(lowerDebts(list, rooms)); got != debtsHeader+tt.lowered {
				t.Errorf("lowered to:\n%s", got)
			}
		})
	}
	for _, list := range []string{"p who", "p who=x", "p whom=1"} {
		if _, err := parseDebts(list); err == nil {
			t.Errorf("%q is taken for a list", list)
		}
	}
}
