package hub

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// replica rebuilds a State from the ops that a sink sees.
type replica struct{ states map[ConnectionID]*State }

func (r *replica) Applied(c *Connection, op Op) {
	if op.Kind == OpAdmit {
		r.states[op.Identity.ID] = &State{}
	}
	r.states[c.ID()].apply(&op)
}

// TestStateIsTheSumOfItsOps lives through everything that changes a State. At every step the replica must
// equal the original, and by the end every field must have been filled: a new field that no op carries, or
// that this life does not reach, fails here.
func TestStateIsTheSumOfItsOps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replica{states: map[ConnectionID]*State{}}
		h := newHub(t, func(c *Config) { c.Sink = r; c.Outbox.Messages = 2 })
		c := connectAs(t, h, numbered{}, "ann", "g")
		filled := map[string]bool{}
		check := func(step string) {
			t.Helper()
			if diff := cmp.Diff(c.state, *r.states[c.ID()], cmp.AllowUnexported(outbox{}), cmp.Comparer(sameEnvelope)); diff != "" {
				t.Fatalf("%s: %s", step, diff)
			}
			v := reflect.ValueOf(c.state)
			for _, f := range reflect.VisibleFields(v.Type()) {
				if !v.FieldByIndex(f.Index).IsZero() {
					filled[f.Name] = true
				}
			}
		}
		target := &Target{Users: []string{"ann"}}
		check("attached")
		if _, err := h.Join(t.Context(), DefaultNamespace, target, []string{"a", "b"}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Leave(t.Context(), DefaultNamespace, target, []string{"a"}, false); err != nil {
			t.Fatal(err)
		}
		check("groups")
		for _, policy := range []Policy{CloseSlow, Conflate, DropOldest, Conflate, DropOldest} {
			s := toGroup("g", "x")
			s.Policy, s.ConflationKey = policy, "k"
			send(t, h, s)
			c.link.stall(true)
			check("sent")
		}
		if err := c.Ack(1); err != nil {
			t.Fatal(err)
		}
		check("acked")
		time.Sleep(time.Second)
		c.Unbind(c.link, NewClose(CauseLost))
		check("detached")
		c.bind(t)
		check("resumed")
		c.Close(NewClose(CauseBackend))
		check("closed")

		for _, f := range reflect.VisibleFields(reflect.TypeFor[State]()) {
			if !filled[f.Name] {
				t.Errorf("no op filled State.%s: add the op, or the step to this test", f.Name)
			}
		}
	})
}

func sameEnvelope(a, b *Envelope) bool { return a == b }
