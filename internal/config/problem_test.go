package config_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/config"
)

func TestProblemsAreDataAndAnErrorWithAllOfThem(t *testing.T) {
	var p config.Problems
	if err := p.Err(); err != nil {
		t.Errorf("no problems: %v", err)
	}
	p.Require(true, "ID", "is not set")
	p.Require(false, "MaxMessage", "is %d, must be above %d", -1, 0)
	p.Add("AllowedOrigins", "%q is not a pattern", "[MaxMessage")
	const want = "MaxMessage is -1, must be above 0\n" +
		`AllowedOrigins "[MaxMessage" is not a pattern`
	err := p.Err()
	if len(p) != 2 || p[0].Field != "MaxMessage" || err == nil || err.Error() != want {
		t.Errorf("%q: %v, want %s", p, err, want)
	}
	if one, ok := errors.AsType[config.Problem](err); !ok || one != p[0] {
		t.Errorf("the error has %v, %t", one, ok)
	}
}

func TestAQuotedURLHasNoPassword(t *testing.T) {
	for text, want := range map[string]string{
		"https://issuer.example/jwks": `"https://issuer.example/jwks"`,
		"https://u:p@issuer.example":  `"https://xxxxx@issuer.example"`,
		"u:p@x:2379":                  `"xxxxx@x:2379"`,
		"ftp://u:p@a@x/%zz":           `"ftp://xxxxx@x/%zz"`,
		"":                            `""`,
	} {
		if got := config.QuoteURL(text); got != want {
			t.Errorf("%q is quoted %s, want %s", text, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		head := rapid.SampledFrom([]string{"", "http://", "x://"}).Draw(t, "scheme")
		quoted := config.QuoteURL(head + rapid.String().Draw(t, "user") + "hunter2@x")
		if strings.Contains(quoted, "hunter2") {
			t.Errorf("the password is in %s", quoted)
		}
	})
}
