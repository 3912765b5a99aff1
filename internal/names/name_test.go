package names

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// The rules as the protos write them.
var (
	inProtos          = regexp.MustCompile(`^[^\p{Cc}]*$`)
	namespaceInProtos = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,127}$`)
)

// wantName is the rule for names in the words of the protos and of RFC 3629.
func wantName(name string) bool {
	fits := name != "" && len(name) <= MaxBytes
	return fits && utf8.ValidString(name) && inProtos.MatchString(name)
}

func TestANameIsWhatTheProtosSay(t *testing.T) {
	name := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a\x00\x1f \x7f\x{80}\x{9f}\x{a0}\x{2028}\x{feff}]{0,3}`),
		rapid.SampledFrom([]string{
			"", "\xff", "a\xc2", "\xc2", "\xc2\x9f",
			strings.Repeat("x", MaxBytes), strings.Repeat("x", MaxBytes+1),
			strings.Repeat("ü", MaxBytes/2), strings.Repeat("ü", MaxBytes/2+1),
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := name.Draw(t, "name")
		if got, want := Check(n) == nil, wantName(n); got != want {
			t.Errorf("%q: %t, want %t", n, got, want)
		}
	})
}

func TestWhatIsWrongWithANameIsSaid(t *testing.T) {
	for name, want := range map[string]struct {
		err  error
		text string
	}{
		"":                                {ErrEmpty, "empty name"},
		strings.Repeat("x", MaxBytes+1):   {ErrTooLong, "1025 bytes, want at most 1024"},
		"\xff":                            {ErrNotUTF8, "not UTF-8"},
		"a\nb":                            {ErrControl, "control character"},
		"a\u0085":                         {ErrControl, "control character"},
		strings.Repeat("\n", MaxBytes+1):  {ErrTooLong, "1025 bytes, want at most 1024"},
		strings.Repeat("\xff", MaxBytes):  {ErrNotUTF8, "not UTF-8"},
		strings.Repeat("ü", MaxBytes/2+1): {ErrTooLong, "1026 bytes, want at most 1024"},
	} {
		if got := Check(name); !errors.Is(got, want.err) || got.Error() != want.text {
			t.Errorf("%.20q: %v, want %v", name, got, want)
		}
	}
	if err := CheckText("", 0); err != nil {
		t.Errorf("a text may be empty: %v", err)
	}
	if err := CheckText("ab", 1); !errors.Is(err, ErrTooLong) {
		t.Errorf("a text has a limit of its own: %v", err)
	}
}

func TestControlCharactersAreThoseOfUnicode(t *testing.T) {
	for r := range rune(0x3000) {
		if got := errors.Is(Check("a"+string(r)+"b"), ErrControl); got != unicode.IsControl(r) {
			t.Errorf("%U: %v", r, got)
		}
	}
}

func TestANamespaceIsWhatTheProtosSay(t *testing.T) {
	for name, want := range map[string]bool{
		"default": true, "a": true, "a-b_c.9": true,
		strings.Repeat("a", MaxNamespaceBytes): true,
		"":                                     false, "9a": false, "A": false,
		"aB": false, "a b": false,
		"a\n": false, "ä": false, ".a": false,
		strings.Repeat("a", MaxNamespaceBytes+1): false,
	} {
		if got := IsNamespace(name); got != want || want != namespaceInProtos.MatchString(name) {
			t.Errorf("%q: %t", name, got)
		}
	}
}

// Names come from strangers: a client's URL and commands, and a peer's requests.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"", "default", "a\x00", "\xc2\x9f", "\xc2", "ü", "a-b_c.9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if got, want := Check(name) == nil, wantName(name); got != want {
			t.Errorf("%q is a name: %t, want %t", name, got, want)
		}
		if got, want := IsNamespace(name), namespaceInProtos.MatchString(name); got != want {
			t.Errorf("%q is a namespace: %t, want %t", name, got, want)
		}
	})
}
