package auth

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
)

// MinSecretBytes is the least length of a bearer secret, in bytes: 32 characters of base64 or hex
// hold at least 128 random bits.
const MinSecretBytes = 32

// nameBytes is the number of bytes of a secret's hash in an identity's name. They tell a handful of
// secrets apart, but do not help to find a secret.
const nameBytes = 4

// Role is the kind of caller that a secret stands for.
type Role string

const (
	// RoleBackend calls the control API.
	RoleBackend Role = "backend"
	// RolePeer is a hub of the same cluster.
	RolePeer Role = "peer"
)

// Identity identifies a caller.
type Identity struct {
	Role Role   // RoleBackend or RolePeer
	Name string // "backend:1a2b3c4d": the role and the start of the secret's SHA-256, for logs
}

// Secrets identifies backends and peers by their bearer secrets. It keeps only the hashes of the
// secrets. Nil Secrets identify no caller. Secrets are safe for concurrent use.
type Secrets struct {
	entries []secretEntry // fixed at LoadSecrets
}

type secretEntry struct {
	hash     [sha256.Size]byte
	identity Identity
}

// LoadSecrets reads the files of each role. A file has a secret in each line; blank lines and lines
// that begin with '#' are skipped. All secrets of a role are valid at the same time, so that a
// secret can be replaced without a pause. The error joins the problems of all files.
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

// FirstSecret returns the first secret of a file that LoadSecrets can read, or "" if the file has
// none. A caller can so present a secret of the same file that the hub reads.
func FirstSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for _, secret := range secretLines(b) {
		return secret, nil
	}
	return "", nil
}

// secretLines yields the secrets of a file, each with the number of its line.
func secretLines(content []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		number := 0
		for line := range bytes.Lines(content) {
			number++
			secret := string(bytes.TrimSpace(line))
			if secret == "" || strings.HasPrefix(secret, "#") {
				continue
			}
			if !yield(number, secret) {
				return
			}
		}
	}
}

// Identify returns the identity that a secret stands for, and reports whether there is one. Its
// duration reveals nothing about the secrets: it compares all hashes, each in constant time.
func (s *Secrets) Identify(secret string) (Identity, bool) {
	if s == nil {
		return Identity{}, false
	}
	var room [2 * MinSecretBytes]byte // most secrets fit; a conversion would allocate
	hash := sha256.Sum256(append(room[:0], secret...))
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
	for number, secret := range secretLines(b) {
		found = true
		if err := s.addSecret(role, secret); err != nil {
			problems = append(problems, fmt.Errorf("secrets: %s:%d: %w", path, number, err))
		}
	}
	if !found {
		problems = append(problems, fmt.Errorf("secrets: %s: no secret in the file", path))
	}
	return errors.Join(problems...)
}

func (s *Secrets) addSecret(role Role, secret string) error {
	if len(secret) < MinSecretBytes {
		return fmt.Errorf("secret of %d bytes, want at least %d", len(secret), MinSecretBytes)
	}
	if !isVisibleASCII(secret) {
		// The value of a gRPC metadata key must be printable ASCII.
		return errors.New("secret has a space or a character outside visible ASCII")
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
	identity := Identity{Role: role, Name: name}
	s.entries = append(s.entries, secretEntry{hash: hash, identity: identity})
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
