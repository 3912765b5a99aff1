package hub

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// idEncoding is base32 in lower case (RFC 4648 §6) without padding: ids go into URLs, metrics and
// shell commands, and are read aloud.
var idEncoding = base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding)

const idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"

const (
	hubIDBytes        = 5  // 40 random bits: 8 characters
	connectionIDBytes = 16 // 128 random bits: 26 characters
)

// ID names one hub process: 40 random bits drawn at its start, never reused.
type ID string

// NewID draws the id of a hub that starts.
func NewID() ID { return ID(randomID(hubIDBytes)) }

// ConnectionID names a connection: `<hub>.<random>`, the hub where it was born and 128 random bits.
// A send to it needs no look-up while it stays there.
type ConnectionID string

func newConnectionID(born ID) ConnectionID {
	return ConnectionID(string(born) + "." + randomID(connectionIDBytes))
}

// ParseConnectionID checks s and returns it with the hub where the connection was born. It and
// isBornAt are the only places that know the form of an id.
func ParseConnectionID(s string) (id ConnectionID, born ID, err error) {
	hub, random, ok := strings.Cut(s, ".")
	if !ok || !isRandomID(hub, hubIDBytes) || !isRandomID(random, connectionIDBytes) {
		return "", "", fmt.Errorf("%w: %q", ErrInvalidConnectionID, s)
	}
	return ConnectionID(s), ID(hub), nil
}

// isBornAt reports whether the connection was born at a hub.
func (id ConnectionID) isBornAt(h ID) bool {
	born, _, _ := strings.Cut(string(id), ".")
	return born == string(h)
}

func randomID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return idEncoding.EncodeToString(b)
}

func isRandomID(s string, n int) bool {
	if len(s) != idEncoding.EncodedLen(n) {
		return false
	}
	b, err := idEncoding.DecodeString(s)
	// The last character may carry spare bits, which must be zero: one id, one spelling.
	return err == nil && idEncoding.EncodeToString(b) == s
}
