package hub

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
)

// applied is a part of an Observer, as a type of the tests has it.
type applied interface {
	Applied(c *Connection, op Op)
}

// observe has a hub's changes of some kinds, or all, seen by a.
func observe(a applied, kinds ...OpKind) func(*Config) {
	return func(c *Config) {
		c.Observers = append(c.Observers, Observer{Ops: kinds, Applied: a.Applied})
	}
}

// observeCloses has the ends of a hub's connections seen by a.
func observeCloses(a applied) func(*Config) { return observe(a, OpClose) }

// TestEachObserverSeesWhatItAsksFor, and an event is queued if any observer has queued it.
func TestEachObserverSeesWhatItAsksFor(t *testing.T) {
	var ends, events, deaf, all kinds
	emitted := func(seen *kinds, queued bool) func(*Connection, Op) bool {
		return func(c *Connection, op Op) bool {
			seen.Applied(c, op)
			return queued
		}
	}
	h := newHub(t, observeCloses(&ends), func(c *Config) {
		c.Observers = append(c.Observers,
			Observer{
				Ops:     []OpKind{OpAttach, OpEvent},
				Applied: events.Applied, Emitted: emitted(&events, true),
			},
			Observer{Ops: []OpKind{OpEvent}, Emitted: emitted(&deaf, false)})
	}, observe(&all))
	c := connect(t, h, "ann", "g")
	if queued, err := c.Emit(&ClientEvent{Name: "clicked"}); !queued || err != nil {
		t.Errorf("queued %t, %v: an observer has queued it", queued, err)
	}
	c.Close(cause.Client.CloseStatus())
	want := []kinds{{OpClose}, {OpAttach, OpEvent}, {OpEvent}}
	if diff := cmp.Diff(want, []kinds{ends, events, deaf}); diff != "" {
		t.Error(diff)
	}
	every := kinds{OpAdmit, OpJoin, OpAttach, OpEvent, OpClose, OpEnd}
	if diff := cmp.Diff(every, all); diff != "" {
		t.Errorf("the observer of all changes: %s", diff)
	}
}

// TestAnEventThatNoObserverQueuesIsNotQueued, with and without an observer that sees it.
func TestAnEventThatNoObserverQueuesIsNotQueued(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no observer":           func(*Config) {},
		"an observer of closes": observeCloses(&kinds{}),
		"one that queues none":  observe(&kinds{}),
	} {
		c := connect(t, newHub(t, change), "ann")
		if queued, err := c.Emit(&ClientEvent{Name: "clicked"}); queued || err != nil {
			t.Errorf("%s: queued %t, %v", name, queued, err)
		}
	}
}

func TestAnObserverWithoutFunctionsIsRefused(t *testing.T) {
	c := DefaultConfig()
	c.ID, c.Observers = NewID(), []Observer{{Ops: []OpKind{OpClose}}}
	if p := c.Validate(); len(p) != 1 || p[0].Field != "Observers[0]" {
		t.Errorf("got %v", p)
	}
}

// TestTheRecorderHasASendBeforeItIsMatched: a connection that joins meanwhile gets it. A duplicate
// is not recorded again.
func TestTheRecorderHasASendBeforeItIsMatched(t *testing.T) {
	var recorded []string
	var c *client
	h := newHub(t, func(config *Config) {
		config.Recorder = func(s *Send) {
			recorded = append(recorded, s.Message.ID)
			if _, err := c.joinGroup("g"); err != nil {
				t.Error(err)
			}
		}
	})
	c = connect(t, h, "ann")
	for range 2 {
		s := toGroup("g", "hi")
		s.RequestID, s.Message.ID = "retried", "m1"
		send(t, h, s)
	}
	recorded = append(recorded, c.link.frames()...)
	if want := []string{"m1", "gg:hi"}; !slices.Equal(recorded, want) {
		t.Errorf("recorded and on the wire: %q, want %q", recorded, want)
	}
}
