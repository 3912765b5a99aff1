// Package authtest makes secrets for tests.
package authtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/connhub/connhub/auth"
)

// NewSecrets returns the secrets of roles, loaded from files. Each role has a single secret.
func NewSecrets(t testing.TB, all map[auth.Role]string) *auth.Secrets {
	t.Helper()
	files := map[auth.Role][]string{}
	for role, secret := range all {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files[role] = []string{path}
	}
	secrets, err := auth.LoadSecrets(files)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}
