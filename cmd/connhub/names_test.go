package main

import (
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
)

// The rule for names of users and groups stands in the protos, at the clients' door and in tokens: each must say the same. (A test of package
// control holds its own code to the protos.)
func TestTheRuleForNamesIsTheSameEverywhere(t *testing.T) {
	inProtos := regexp.MustCompile(`^[^\p{Cc}]*$`)
	key, err := auth.NewTokenKey([]byte(someKey))
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.OneOf(
		rapid.String(), rapid.StringMatching(`[a\x00\x1f \x7f\x{80}\x{9f}\x{a0}\x{2028}\x{feff}]{0,3}`),
		rapid.SampledFrom([]string{
			"", "\xff", "a\xc2", strings.Repeat("x", hub.MaxName), strings.Repeat("x", hub.MaxName+1),
			strings.Repeat("ü", hub.MaxName/2), strings.Repeat("ü", hub.MaxName/2+1),
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := name.Draw(t, "name")
		want := n != "" && len(n) <= hub.MaxName && utf8.ValidString(n) && inProtos.MatchString(n)
		if got := edge.CheckName(n) == nil; got != want {
			t.Errorf("the clients' door takes %q: %t, want %t", n, got, want)
		}
		_, err := key.Sign("https://hub.example/client/hubs/default", auth.Claims{Groups: []string{n}, Expires: time.Now().Add(time.Hour)})
		if got := err == nil; got != want {
			t.Errorf("a token takes %q: %t, want %t", n, got, want)
		}
	})
}
