package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// MinSecretBytes is the least length of a bearer secret: 32 characters of base64 or hex hold 128 random
// bits or more.
const MinSecretBytes = 32

// nameBytes is how much of a secret's hash stands in an identity's name: enough to tell a handful of
// secrets apart, and useless for finding one.
const nameBytes = 4

// Role is what the bearer of a secret is.
type Role string

const (
	// RoleBackend calls the control API.
	RoleBackend Role = "backend"
	// RolePeer is another hub.
	RolePeer Role = "peer"
)

// Identity is who a caller is.
type Identity struct {
	Role Role
	Name string // "backend:1a2b3c4d": the role and the start of the secret's SHA-256
}

// Secrets knows the bearer secrets of backends and peers. It keeps their hashes only.
type Secrets struct {
	entries []secretEntry
}

type secretEntry struct {
	hash     [sha256.Size]byte
	identity Identity
}

// LoadSecrets reads the files of each role: one secret a line; blank lines and lines that begin with
// '#' are skipped. Several secrets of one role are all good, which is how one is replaced by another.
// The error names every problem at once.
func LoadSecrets(files map[Role][]string) (*Secrets, error) {
	s := &Secrets{}
	var problems []error
	for _, role := range slices.Sorted(maps.Keys(files)) {
		if role != RoleBackend && role != RolePeer {
			problems = append(problems, fmt.Errorf("secrets: unknown role %q", role))
			continue
		}
		for _, path := range files[role] {
			problems = append(problems, s.loadFile(role, path))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return s, nil
}

// Format hides the secrets' hashes from every verb of package fmt.
func (s *Secrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.Secrets(redacted)")) }

// Identify returns who the bearer of a secret is; false: nobody. How long it takes tells nothing about
// the secrets: hashes are compared, all of them, each in constant time.
func (s *Secrets) Identify(secret string) (Identity, bool) {
	if s == nil {
		return Identity{}, false
	}
	hash := sha256.Sum256([]byte(secret))
	found := -1
	for i := range s.entries {
		same := subtle.ConstantTimeCompare(hash[:], s.entries[i].hash[:])
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 {
		return Identity{}, false
	}
	return s.entries[found].identity, true
}

func (s *Secrets) loadFile(role Role, path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("secrets: %w", err)
	}
	var problems []error
	found := false
	number := 0
	for line := range bytes.Lines(b) {
		number++
		secret := string(bytes.TrimSpace(line))
		if secret == "" || strings.HasPrefix(secret, "#") {
			continue
		}
		found = true
		if err := s.add(role, secret); err != nil {
			problems = append(problems, fmt.Errorf("secrets: %s:%d: %w", path, number, err))
		}
	}
	if !found {
		problems = append(problems, fmt.Errorf("secrets: %s: no secret in the file", path))
	}
	return errors.Join(problems...)
}

func (s *Secrets) add(role Role, secret string) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("secret of %d bytes, want at least %d", len(secret), MinSecretBytes)
	}
	if !isVisibleASCII(secret) {
		// A gRPC metadata value can't carry anything else.
		return errors.New("secret has a space or a character that is not visible ASCII")
	}
	hash := sha256.Sum256([]byte(secret))
	for i := range s.entries {
		if s.entries[i].hash != hash {
			continue
		}
		if s.entries[i].identity.Role != role {
			return fmt.Errorf("the same secret has the role %s too", s.entries[i].identity.Role)
		}
		return nil
	}
	name := string(role) + ":" + hex.EncodeToString(hash[:nameBytes])
	s.entries = append(s.entries, secretEntry{hash: hash, identity: Identity{Role: role, Name: name}})
	return nil
}

func isVisibleASCII(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
