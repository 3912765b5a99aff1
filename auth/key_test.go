package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokenKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	token, err := newTestKey(t, testSecret).Sign(testAudience, Claims{
		Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		ok            bool
	}{
		{"bare", testSecret, true},
		{"one newline", testSecret + "\n", true},
		{"one CRLF", testSecret + "\r\n", true},
		{"two newlines: the first belongs to the key", testSecret + "\n\n", false},
		{"too short", testSecret[:MinKeyBytes-1] + "\n", false},
		{"empty", "", false},
	} {
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := LoadTokenKey(path)
		if err == nil {
			_, err = NewTokens(nil, key).Verify(t.Context(), token, testAudience)
		} else if c.content != "" {
			holdNoSecret(t, err.Error(), strings.TrimSpace(c.content))
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := LoadTokenKey(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestFormattingShowsNoKey(t *testing.T) {
	key := newTestKey(t, testSecret)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		holdNoSecret(t, fmt.Sprintf(verb, key), testSecret)
		holdNoSecret(t, fmt.Sprintf(verb, struct{ K *TokenKey }{key}), testSecret)
	}
}

func TestAnAccessKeyIsTheKeyAsText(t *testing.T) {
	if have, err := newTestKey(t, testSecret).AccessKey(); err != nil || have != testSecret {
		t.Errorf("have %q, %v", have, err)
	}
	for _, secret := range []string{testSecret + ";", testSecret + "\n", testSecret + "\xff"} {
		_, err := newTestKey(t, secret).AccessKey()
		if err == nil {
			t.Fatalf("%q goes into a connection string", secret)
		}
		holdNoSecret(t, err.Error(), testSecret)
	}
}
