package reading

import (
	"encoding/base64"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

func fingerprintOf(
	t interface{ Fatal(...any) }, method, namespace string, target *controlv1.Target,
) fingerprint {
	f, err := newFingerprint(method, namespace, target)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPageTokenCarriesTheCursorForItsOwnRequest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		namespace := rapid.StringMatching(`[a-z][a-z0-9]{0,8}`).Draw(t, "namespace")
		target := users(rapid.SliceOfN(rapid.StringN(1, 8, -1), 1, 4).Draw(t, "users")...)
		own := fingerprintOf(t, "list", namespace, target)
		want := hub.Cursor{
			Hash: rapid.Uint64().Draw(t, "hash"),
			Name: rapid.StringN(1, -1, hub.MaxName).Draw(t, "name"),
		}
		token := pageToken(own, want)
		if have, err := parsePageToken(token, own); err != nil || have != want {
			t.Fatalf("have %v, %v, want %v", have, err, want)
		}
		if len(token) > 4096 {
			t.Errorf("token of %d bytes", len(token))
		}
		others := []fingerprint{
			fingerprintOf(t, "other", namespace, target),
			fingerprintOf(t, "list", namespace+"x", target),
			fingerprintOf(t, "list", namespace, users(append(target.GetUsers(), "x")...)),
			fingerprintOf(t, "list", namespace, &controlv1.Target{Groups: target.GetUsers()}),
		}
		for i, other := range others {
			_, err := parsePageToken(token, other)
			if !errors.Is(err, failure.ErrPageTokenInvalid) {
				t.Errorf("other request %d: %v", i, err)
			}
		}
	})
}

func TestTheLastPageHasNoToken(t *testing.T) {
	if token := pageToken(fingerprint{}, hub.Cursor{}); token != "" {
		t.Errorf("token %q", token)
	}
	if c, err := parsePageToken("", fingerprint{1}); err != nil || c != (hub.Cursor{}) {
		t.Errorf("%v, %v", c, err)
	}
}

func FuzzPageToken(f *testing.F) {
	own := fingerprintOf(f, "list", "default", &controlv1.Target{Everyone: true})
	good := pageToken(own, hub.Cursor{Hash: 7, Name: "name"})
	f.Add(good, []byte{})
	f.Add(good[:10]+"\n"+good[10:], []byte("name"))
	f.Add(good+"=", []byte("\xff"))
	f.Fuzz(func(t *testing.T, token string, tail []byte) {
		ours := append(append([]byte{pageTokenVersion}, own[:]...), tail...)
		for _, token := range []string{token, base64.RawURLEncoding.EncodeToString(ours)} {
			cursor, err := parsePageToken(token, own)
			if err != nil {
				if !errors.Is(err, failure.ErrPageTokenInvalid) {
					t.Errorf("not one of ours: %v", err)
				}
				continue
			}
			if again := pageToken(own, cursor); again != token {
				t.Errorf("%q and %q are the same token", token, again)
			}
		}
	})
}

func users(names ...string) *controlv1.Target { return &controlv1.Target{Users: names} }
