package main

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/names"
	"github.com/connhub/connhub/internal/testkit"
)

// internal/names holds the rule to the words of the protos, and package control its answers. A
// token and the core keep to it too.
func TestTheRuleForNamesIsTheSameEverywhere(t *testing.T) {
	if hub.MaxName != names.MaxBytes || hub.MaxGroups != auth.MaxGroups {
		t.Errorf(
			"the core has other limits: names of %d bytes, %d groups", hub.MaxName, hub.MaxGroups,
		)
	}
	key, err := auth.NewTokenKey([]byte(testkit.SomeKey))
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a\x00\x1f \x7f\x{80}\x{9f}\x{a0}\x{2028}\x{feff}]{0,3}`),
		rapid.SampledFrom([]string{
			"", "\xff", "a\xc2", strings.Repeat("x", hub.MaxName),
			strings.Repeat("x", hub.MaxName+1),
			strings.Repeat("ü", hub.MaxName/2), strings.Repeat("ü", hub.MaxName/2+1),
		}),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := name.Draw(t, "name")
		want := names.Check(n) == nil
		_, err := key.Sign("https://hub.example/client/hubs/default", auth.Claims{
			Groups: []string{n}, Expires: time.Now().Add(time.Hour),
		})
		if got := err == nil; got != want {
			t.Errorf("a token takes %q: %t, want %t", n, got, want)
		}
	})
}
