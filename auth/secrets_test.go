package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	secretA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secretB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	secretC = "cccccccccccccccccccccccccccccccc"
)

func writeFile(t *testing.T, content string) string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "secrets")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func TestIdentifyAllocatesNothing(t *testing.T) {
	s, err := LoadSecrets(map[Role][]string{RoleBackend: {writeFile(t, secretA+secretB)}})
	if err != nil {
		t.Fatal(err)
	}
	secret := secretA + secretB
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := s.Identify(secret); !ok {
			t.Error("an unknown secret")
		}
	}); n > 0 {
		t.Errorf("%v objects, want none", n)
	}
}

func TestSecretsTellRoleAndName(t *testing.T) {
	s, err := LoadSecrets(map[Role][]string{
		RoleBackend: {
			writeFile(t, "# the old one\n"+secretA+"\n\n  "+secretB+"  \r\n"),
			writeFile(t, secretA),
		},
		RolePeer: {writeFile(t, secretC)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		secret string
		want   Identity
	}{
		{secretA, Identity{RoleBackend, "backend:3ba3f5f4"}},
		{secretB, Identity{RoleBackend, "backend:bdb33976"}},
		{secretC, Identity{RolePeer, "peer:cd93782b"}},
	} {
		have, ok := s.Identify(c.secret)
		if !ok || have != c.want {
			t.Errorf("have %v, %v, want %v", have, ok, c.want)
		}
	}
	for _, wrong := range []string{
		"", secretA[1:], secretA + "a", "# the old one", strings.ToUpper(secretA),
	} {
		if identity, ok := s.Identify(wrong); ok {
			t.Errorf("%q is %v", wrong, identity)
		}
	}
	if identity, ok := (*Secrets)(nil).Identify(secretA); ok {
		t.Errorf("no secrets, but %v", identity)
	}
}

func TestSecretsRefuseBadFilesAndNameAllProblems(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	short := writeFile(t, "\n"+secretA[1:]+"\n")
	blank := writeFile(t, secretA[:16]+" "+secretA[:16])
	empty := writeFile(t, "# nothing\n")
	_, err := LoadSecrets(map[Role][]string{
		RoleBackend: {missing, short, blank, writeFile(t, secretC)},
		RolePeer:    {empty, writeFile(t, secretC)},
		"root":      {short},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		missing, short + ":2: secret of 31 bytes, want at least 32",
		blank + ":1: secret has a space",
		empty + ": no secret in the file", "the same secret has the role backend too",
		`unknown role "root"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	holdNoSecret(t, err.Error(), secretA)
	holdNoSecret(t, err.Error(), secretC)
}

func TestFormattingShowsNoSecret(t *testing.T) {
	s, err := LoadSecrets(map[Role][]string{RoleBackend: {writeFile(t, secretA)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if have := fmt.Sprintf(verb, s); have != "auth.Secrets(redacted)" {
			t.Errorf("%s: %s", verb, have)
		}
	}
}

func TestFirstSecretIsTheFirstThatTheHubReads(t *testing.T) {
	for content, want := range map[string]string{
		"# the old one\n\n  " + secretA + " \r\n" + secretB: secretA,
		"# nothing\n": "",
		"":            "",
	} {
		if got, err := FirstSecret(writeFile(t, content)); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", content, got, err, want)
		}
	}
	_, err := FirstSecret(filepath.Join(t.TempDir(), "missing"))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
