package auth_test

import (
	"testing"

	"github.com/connhub/connhub/auth"
)

func TestABearerSecretIsFoundHoweverTheHeaderIsWritten(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer s3cret":    "s3cret",
		"bearer   s3cret ": "s3cret",
		"BEARER two words": "two words",
		"Bearer":           "",
		"Bearer ":          "",
		"Basic s3cret":     "",
		"s3cret":           "",
		" Bearer s3cret":   "",
		"":                 "",
	} {
		if got := auth.BearerSecret(header); got != want {
			t.Errorf("%q: got %q, want %q", header, got, want)
		}
	}
}
