package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// defaultPageSize is the size of a page when a request does not say.
	defaultPageSize = 100
	// pageTokenVersion is the first byte of a token. A hub that reads another version refuses it.
	pageTokenVersion = 1
	// fingerprintBytes tells one request from another: 64 bits, since it guards against mistakes only. A
	// token holds nothing that its bearer may not ask for anyway.
	fingerprintBytes = 8
	// pageTokenHead is what precedes the name: version, fingerprint, the cursor's hash.
	pageTokenHead = 1 + fingerprintBytes + 8
)

// fingerprint says for which request a page token was given out.
type fingerprint [fingerprintBytes]byte

// newFingerprint returns the fingerprint of a list request: of what it lists, and where.
func newFingerprint(method, namespace string, t *controlv1.Target) (fingerprint, error) {
	target, err := proto.MarshalOptions{Deterministic: true}.Marshal(t)
	if err != nil {
		return fingerprint{}, err
	}
	hash := sha256.New()
	hash.Write([]byte(method + "\x00" + namespace + "\x00")) // neither has a zero byte
	hash.Write(target)
	return fingerprint(hash.Sum(nil)[:fingerprintBytes]), nil
}

// pageToken makes the token for the page behind a cursor; empty for the zero Cursor, behind which there
// is none.
func pageToken(f fingerprint, after hub.Cursor) string {
	if after == (hub.Cursor{}) {
		return ""
	}
	b := make([]byte, 0, pageTokenHead+len(after.Name))
	b = append(b, pageTokenVersion)
	b = append(b, f[:]...)
	b = binary.BigEndian.AppendUint64(b, after.Hash)
	b = append(b, after.Name...)
	return base64.RawURLEncoding.EncodeToString(b)
}

// parsePageToken returns the cursor in a token, or the zero Cursor for no token. It takes only what pageToken
// made for the same request.
func parsePageToken(token string, f fingerprint) (hub.Cursor, error) {
	if token == "" {
		return hub.Cursor{}, nil
	}
	invalid := &fieldError{errPageTokenInvalid, "page_token", errPageTokenInvalid.Error()}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	// The decoder passes over line breaks; a token has none.
	if err != nil || strings.ContainsAny(token, "\r\n") || len(b) <= pageTokenHead {
		return hub.Cursor{}, invalid
	}
	name := b[pageTokenHead:]
	if b[0] != pageTokenVersion || !bytes.Equal(b[1:1+fingerprintBytes], f[:]) || len(name) > hub.MaxName || !utf8.Valid(name) {
		return hub.Cursor{}, invalid
	}
	return hub.Cursor{Hash: binary.BigEndian.Uint64(b[1+fingerprintBytes:]), Name: string(name)}, nil
}

// pageSize is the size of page that a request asks for.
func pageSize(asked int32) int {
	if asked == 0 {
		return defaultPageSize
	}
	return int(asked)
}
