package hub

import (
	"errors"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub/cause"
)

func TestIDsSayWhereTheyWereBorn(t *testing.T) {
	born := NewID()
	id := newConnectionID(born)
	got, hub, err := ParseConnectionID(string(id))
	if err != nil || got != id || hub != born {
		t.Errorf("parsed %q of hub %q, %v", got, hub, err)
	}
	if len(born) != 8 || len(id) != 8+1+26 {
		t.Errorf("ids %q and %q have other lengths than 40 and 128 bits", born, id)
	}
}

func FuzzParseConnectionID(f *testing.F) {
	f.Add(string(newConnectionID(NewID())))
	for _, s := range []string{
		"", ".", "a.b", strings.Repeat("a", 8) + "." + strings.Repeat("z", 26), "\xff.\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, born, err := ParseConnectionID(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidConnectionID) || id != "" || born != "" {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if string(id) != s || !strings.HasPrefix(s, string(born)+".") || strings.ToLower(s) != s {
			t.Errorf("%q parsed as %q of %q", s, id, born)
		}
	})
}

func TestEveryCauseAndReasonHasItsRow(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range cause.All() {
		label, code := c.String(), c.CloseStatus().Code
		if label == "" || seen[label] {
			t.Errorf("cause %d has the label %q", c, label)
		}
		seen[label] = true
		if code != 0 && (code < 1000 || code > 1013 || code == 1005 || code == 1006) {
			t.Errorf("%v closes with %d, which may not be sent", c, code)
		}
	}
	for _, r := range cause.DropReasons() {
		if label := r.String(); label == "" || seen["drop "+label] {
			t.Errorf("reason %d has the label %q", r, label)
		} else {
			seen["drop "+label] = true
		}
	}
}
