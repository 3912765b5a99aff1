package hub

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/connhub/connhub/hub/transfer"
)

// louder is a variant of numbered: it has the same name and different bytes.
type louder struct{ numbered }

func (louder) Variant() string { return "numbered;louder" }

func (p louder) Encode(m *Message, r Route) []byte {
	return append(p.numbered.Encode(m, r), appendFrame(nil, "!")...)
}

// TestAMovedConnectionKeepsTheVariantOfItsProtocol, move after move: its client reads no other
// bytes. All else knows the protocol by its name.
func TestAMovedConnectionKeepsTheVariantOfItsProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newHub(t), newHub(t)
		c := connectAs(t, from, louder{}, "ann", "g")
		token := c.link.token(t)
		send(t, from, toGroup("g", "before"))
		for range 3 {
			p := &passage{t, from, to, c.ID()}
			s := p.freeze()
			if s.Protocol != "numbered;louder" {
				t.Fatalf("the snapshot names %q", s.Protocol)
			}
			err := to.Moves().Adopt(s, s.Epoch+1, numbered{})
			if !errors.Is(err, transfer.ErrBroken) {
				t.Fatalf("adopted with a different variant: %v", err)
			}
			must(t, "adopt", to.Moves().Adopt(s, s.Epoch+1, louder{}))
			p.seal()
			p.commit()
			from, to = to, from
		}
		back := comeBack(t, from, c.ID(), token)
		send(t, from, toGroup("g", "behind"))
		frames := back.link.frames()[1:]
		want := []string{"#1", "gg:before", "!", "#2", "gg:behind", "!"}
		if !slices.Equal(frames, want) {
			t.Errorf("the client got %q, want %q", frames, want)
		}
		if name := back.Info().Protocol; name != "numbered" {
			t.Errorf("the protocol is %q", name)
		}
		checkRest(t, from, to)
	})
}
