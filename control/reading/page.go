package reading

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// defaultPageSize is the size of a page if a request sets none.
	defaultPageSize = 100
	// pageTokenVersion is the first byte of a token. A hub that reads another version refuses it.
	pageTokenVersion = 1
	// fingerprintBytes tells requests apart: 64 bits, because it guards only against mistakes. A
	// token holds nothing that its bearer may not ask for anyway.
	fingerprintBytes = 8
	// pageTokenHead is the bytes before the name: version, fingerprint, the cursor's hash.
	pageTokenHead = 1 + fingerprintBytes + 8
)

// fingerprint identifies the request that a page token belongs to.
type fingerprint [fingerprintBytes]byte

// newFingerprint returns the fingerprint of a list request: of its method, namespace and target.
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

// pageToken returns the token for the page behind a cursor. It is empty for the zero Cursor, which
// has no page behind it.
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

// parsePageToken returns the cursor in a token, or the zero Cursor for an empty token. It takes
// only a token that pageToken made for the same request.
func parsePageToken(token string, f fingerprint) (hub.Cursor, error) {
	if token == "" {
		return hub.Cursor{}, nil
	}
	invalid := &failure.FieldError{
		Kind: failure.ErrPageTokenInvalid, Field: "page_token",
		Description: failure.ErrPageTokenInvalid.Error(),
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	// The decoder ignores line breaks; a token has none.
	if err != nil || strings.ContainsAny(token, "\r\n") || len(b) <= pageTokenHead {
		return hub.Cursor{}, invalid
	}
	name := b[pageTokenHead:]
	if b[0] != pageTokenVersion || !bytes.Equal(b[1:1+fingerprintBytes], f[:]) ||
		len(name) > hub.MaxName || !utf8.Valid(name) {
		return hub.Cursor{}, invalid
	}
	hash := binary.BigEndian.Uint64(b[1+fingerprintBytes:])
	return hub.Cursor{Hash: hash, Name: string(name)}, nil
}

// page is a part of a listing, in the order of hub.Cursor.
type page[T any] struct {
	items []T
	next  hub.Cursor // all items up to here are in the page; zero: to the end
}

// mergePages merges the pages of several hubs into a page of at most limit items. join merges two
// items of the same name. The page ends where the shortest of the pages ends: behind it that hub
// may have items that are in no page.
func mergePages[T any](
	pages []page[T], limit int, name func(T) string, join func(a, b T) T,
) page[T] {
	type entry struct {
		at   hub.Cursor
		item T
	}
	var end hub.Cursor // zero: none
	var all []entry
	for _, p := range pages {
		if p.next != (hub.Cursor{}) && (end == (hub.Cursor{}) || p.next.Compare(end) < 0) {
			end = p.next
		}
		for _, item := range p.items {
			all = append(all, entry{hub.CursorOf(name(item)), item})
		}
	}
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	merged := page[T]{next: end}
	var last hub.Cursor
	for _, e := range all {
		switch n := len(merged.items); {
		case end != (hub.Cursor{}) && e.at.Compare(end) > 0:
			return merged
		case n > 0 && e.at == last:
			merged.items[n-1] = join(merged.items[n-1], e.item)
			continue
		case n == limit:
			merged.next = last
			return merged
		}
		merged.items, last = append(merged.items, e.item), e.at
	}
	return merged
}

// newPeerCursor and cursorIn translate a cursor for a peer and back.
func newPeerCursor(c hub.Cursor) *peerv1.Cursor {
	if c == (hub.Cursor{}) {
		return nil
	}
	return &peerv1.Cursor{Hash: c.Hash, Name: c.Name}
}

func cursorIn(c *peerv1.Cursor) hub.Cursor {
	return hub.Cursor{Hash: c.GetHash(), Name: c.GetName()}
}

// pageSize returns the size of page that a request asks for.
func pageSize(asked int32) int {
	if asked == 0 {
		return defaultPageSize
	}
	return int(asked)
}
