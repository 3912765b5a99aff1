package events

import (
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// The smallest hub, and a backend with one connection: the way of a caller that takes the most.
func TestASmallHubHasRoomForAllSubscribers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBedOf(t, control.MinCallBytes)
		var streams []*stream
		for range DefaultConfig().MaxSubscribers {
			streams = append(streams, b.subscribe(t, &eventsv1.Subscription{}))
		}
		_, err := b.open(t, &eventsv1.Subscription{}).end()
		holdError(t, err, codes.ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
		b.attach(t, hub.Admission{User: "ann"})
		for _, s := range streams {
			if e := s.next(t, 1)[0]; e.GetConnected() == nil {
				t.Errorf("%v, want connected", e)
			}
		}
	})
}

// What waits for a subscriber counts for its caller, who keeps room for calls; what is read or over
// counts no more.
func TestEventsThatWaitCountForTheirCaller(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBedOf(t, control.MinCallBytes)
		s := b.subscribe(t, &eventsv1.Subscription{Kinds: []eventsv1.EventKind{eventsv1.EventKind_EVENT_KIND_MESSAGE}})
		synctest.Wait()
		idle := b.heldBytes(t)
		if most := int64(control.MinCallBytes / 3 / DefaultConfig().MaxSubscribers); idle > most {
			t.Errorf("an idle subscription holds %d bytes, want %d at most", idle, most)
		}
		c := b.attach(t, hub.Admission{User: "ann"})
		const sent = 200 // of 100 KB: more than a sixth of the budget, and than the queue takes
		for range sent {
			_, _ = c.Emit(&hub.Event{Name: "flood", Kind: hub.Text, Payload: []byte(strings.Repeat("x", 100<<10))})
		}
		synctest.Wait()
		held, third := b.heldBytes(t), int64(control.MinCallBytes/3)
		if held < third/4 || held > third-third/4 {
			t.Errorf("%d bytes are held while %d events wait, want about half of %d", held, sent, third)
		}
		var read, missed int64
		for read+missed < sent {
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.GetEvents() {
				missed += e.GetGap().GetCount()
				if e.GetMessage() != nil {
					read++
				}
			}
		}
		synctest.Wait()
		if held := b.heldBytes(t); held != idle || missed == 0 || read == 0 {
			t.Errorf("%d bytes are held when all was read, want %d; %d were read and %d missed", held, idle, read, missed)
		}
	})
}

// countedAccount holds so much at most.
type countedAccount struct{ held, most int64 }

func (a *countedAccount) Reserve(bytes int64) bool {
	if a.held+bytes > a.most {
		return false
	}
	a.held += bytes
	return true
}

func (a *countedAccount) ReserveSpare(bytes int64) bool {
	return a.held+bytes <= a.most/2 && a.Reserve(bytes)
}

func (a *countedAccount) Release(bytes int64) { a.held -= bytes }

func TestARoomReservesWhatItHoldsAndLittleMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := &countedAccount{most: int64(rapid.IntRange(0, 20*roomStep).Draw(t, "most"))}
		r := &room{account: a}
		var held []int64
		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				bytes, spare := rapid.Int64Range(1, 3*roomStep).Draw(t, "bytes"), rapid.Bool().Draw(t, "spare")
				missing := max(0, r.held+bytes-ownBytes-r.reserved)
				most := a.most
				if spare {
					most /= 2
				}
				fits := missing == 0 || a.held+missing <= most
				if got := r.take(bytes, spare); got != fits {
					t.Fatalf("took %d bytes of %d: %v", bytes, a.most, got)
				}
				if fits {
					held = append(held, bytes)
				}
			},
			"give": func(t *rapid.T) {
				if len(held) == 0 {
					t.Skip("nothing is held")
				}
				r.give(held[0])
				held = held[1:]
			},
			"": func(t *rapid.T) {
				var sum int64
				for _, bytes := range held {
					sum += bytes
				}
				if r.held != sum || r.reserved != a.held || r.held > ownBytes+r.reserved || sum == 0 && a.held != 0 ||
					a.held > max(0, sum-ownBytes)+2*roomStep {
					t.Fatalf("%d are held, %d counted, %d reserved, %d of the account", sum, r.held, r.reserved, a.held)
				}
			},
		})
	})
}
