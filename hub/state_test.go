package hub

import (
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/ranges"
)

// replica rebuilds a State from the ops that an observer sees.
type replica struct{ states map[ConnectionID]*State }

func (r *replica) Applied(c *Connection, op Op) {
	if op.Kind == OpAdmit {
		r.states[op.Identity.ID] = &State{}
	}
	r.states[c.ID()].applyOp(&op)
}

// TestStateIsTheSumOfItsOps lives through everything that changes a State. At every step the
// replica must equal the original, and by the end every field must have been filled: a new field
// that no op carries, or that this life does not reach, fails here.
func TestStateIsTheSumOfItsOps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &replica{states: map[ConnectionID]*State{}}
		h := newHub(t, observe(r), func(c *Config) { c.Outbox.Messages = 2 })
		c := connectAs(t, h, numbered{}, "ann", "g")
		filled := map[string]bool{}
		check := func(step string) {
			t.Helper()
			if diff := cmp.Diff(c.state, *r.states[c.ID()],
				cmp.AllowUnexported(State{}, outbox{}, permission.Grants{}, ranges.Set{}),
				cmp.Comparer(sameEnvelope)); diff != "" {
				t.Fatalf("%s: %s", step, diff)
			}
			markFilled(filled, reflect.ValueOf(c.state))
			if c.state.Resumption != nil {
				markFilled(filled, reflect.ValueOf(*c.state.Resumption))
			}
		}
		target := &Target{Users: []string{"ann"}}
		check("attached")
		if _, err := h.Join(t.Context(), DefaultNamespace, target, []string{"a", "b"}); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Leave(
			t.Context(), DefaultNamespace, target, []string{"a"}, false,
		); err != nil {
			t.Fatal(err)
		}
		check("groups")
		if err := c.addGrants(
			grants(revoked(joining("b"))),
		); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Emit(&ClientEvent{Name: "clicked"}); err != nil {
			t.Fatal(err)
		}
		for _, command := range []uint64{1, 2, 9, 8} {
			c.Done(command)
		}
		check("client")
		for _, policy := range []overflow.Policy{
			overflow.CloseSlow,
			overflow.Conflate, overflow.DropOldest, overflow.Conflate, overflow.DropOldest,
		} {
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
		token := c.link.token(t)
		c.Unbind(c.link, cause.Lost.CloseStatus())
		check("detached")
		c.resume(t, token)
		check("resumed")
		_, err := h.Moves().Freeze(t.Context(), c.ID(), NewID())
		must(t, "freeze", err)
		check("moving")
		must(t, "thaw", h.Moves().Thaw(c.ID()))
		check("thawed")
		c.Close(cause.Backend.CloseStatus())
		check("closed")

		for _, f := range append(reflect.VisibleFields(
			reflect.TypeFor[State](),
		), reflect.VisibleFields(reflect.TypeFor[Resumption]())...) {
			if !filled[f.Name] {
				t.Errorf("no op filled State.%s: add the op, or the step to this test", f.Name)
			}
		}
	})
}

// TestAnObserverSeesTheOpsItAsksFor, in order, and all if it asks for none.
func TestAnObserverSeesTheOpsItAsksFor(t *testing.T) {
	all := []OpKind{OpAdmit, OpJoin, OpAttach, OpPush, OpNumber, OpAck, OpClose, OpEnd}
	for _, tc := range []struct{ ask, want []OpKind }{
		{nil, all},
		{[]OpKind{OpClose, OpJoin}, []OpKind{OpJoin, OpClose}},
	} {
		var seen kinds
		h := newHub(t, observe(&seen, tc.ask...))
		c := connect(t, h, "ann", "g")
		send(t, h, toGroup("g", "hi"))
		c.Close(cause.Client.CloseStatus())
		if diff := cmp.Diff(tc.want, []OpKind(seen)); diff != "" {
			t.Error(diff)
		}
	}
}

// kinds is an observer that keeps the kinds that it saw.
type kinds []OpKind

func (k *kinds) Applied(_ *Connection, op Op) { *k = append(*k, op.Kind) }

// ordinals is an observer that keeps those of events, with the kind of their ops.
type ordinals []string

func (o *ordinals) Applied(_ *Connection, op Op) {
	if op.Ordinal > 0 {
		*o = append(*o, fmt.Sprintf("%d %d", op.Kind, op.Ordinal))
	}
}

// TestEventsOfAConnectionAreNumberedWithoutHoles from its first link to its end, whatever links it
// has in between. A connection that never had a link has no events.
func TestEventsOfAConnectionAreNumberedWithoutHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen ordinals
		h := newHub(t, observe(&seen))
		c := connectAs(t, h, numbered{}, "ann", "g")
		emit := func() {
			t.Helper()
			if _, err := c.Emit(&ClientEvent{Name: "clicked"}); err != nil {
				t.Fatal(err)
			}
		}
		emit()
		token := c.link.token(t)
		c.Unbind(c.link, cause.Lost.CloseStatus())
		c.resume(t, token)
		emit()
		c.Close(cause.Backend.CloseStatus())
		never, err := h.Attach(
			t.Context(), Admission{Namespace: DefaultNamespace, Protocol: numbered{}},
		)
		if err != nil {
			t.Fatal(err)
		}
		never.Close(cause.Handshake.CloseStatus())
		want := ordinals{
			fmt.Sprintf("%d 1", OpAttach), fmt.Sprintf("%d 2", OpEvent),
			fmt.Sprintf("%d 3", OpEvent), fmt.Sprintf("%d 4", OpClose),
		}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Error(diff)
		}
	})
}

func markFilled(filled map[string]bool, v reflect.Value) {
	for _, f := range reflect.VisibleFields(v.Type()) {
		if !v.FieldByIndex(f.Index).IsZero() {
			filled[f.Name] = true
		}
	}
}

func sameEnvelope(a, b *Envelope) bool { return a == b }
