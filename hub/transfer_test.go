package hub

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/ranges"
)

// drained is how the old hub of a test closes the link of a connection that has moved.
var drained = cause.Moved.CloseStatus()

// must fails the test for an error of a step.
func must(t testing.TB, step string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
}

// passage carries the move of a connection from hub to hub, in process.
type passage struct {
	t        testing.TB
	from, to *Hub
	id       ConnectionID
}

func (p *passage) freeze() *Snapshot {
	p.t.Helper()
	s, err := p.from.Moves().Freeze(p.t.Context(), p.id, p.to.ID())
	must(p.t, "freeze", err)
	return s
}

func (p *passage) adopt(s *Snapshot) {
	p.t.Helper()
	must(p.t, "adopt", p.to.Moves().Adopt(s, s.Epoch+1, numbered{}))
}

func (p *passage) apply(changes []Op, err error) {
	p.t.Helper()
	must(p.t, "changes", err)
	for _, op := range changes {
		must(p.t, fmt.Sprintf("apply op %d", op.Kind), p.to.Moves().Apply(p.id, op))
	}
}

func (p *passage) change() { p.t.Helper(); p.apply(p.from.Moves().Changes(p.id)) }
func (p *passage) seal()   { p.t.Helper(); p.apply(p.from.Moves().Seal(p.id)) }

func (p *passage) commit() {
	p.t.Helper()
	must(p.t, "commit", p.to.Moves().Commit(p.id))
	ended, err := p.from.Moves().Release(p.id, drained)
	must(p.t, "release", err)
	if ended != nil {
		p.t.Fatalf("closed as %v meanwhile", ended)
	}
}

func (p *passage) fail() {
	p.t.Helper()
	if err := p.to.Moves().Abandon(p.id); err != nil && !errors.Is(err, transfer.ErrMoving) {
		p.t.Fatal(err)
	}
	must(p.t, "thaw", p.from.Moves().Thaw(p.id))
}

// checkRest fails if the counts of a hub are not exact.
func checkRest(t testing.TB, hubs ...*Hub) {
	t.Helper()
	for i, h := range hubs {
		if err := h.CheckAtRest(); err != nil {
			t.Fatalf("hub %d: %v", i, err)
		}
	}
}

// checkEmpty fails if a hub holds anything.
func checkEmpty(t testing.TB, h *Hub) {
	t.Helper()
	held, leaving := h.holdings.total.bytes.Load(), h.holdings.total.leaving.Load()
	if h.Len() != 0 || held != 0 || leaving != 0 || len(h.namespaces) != 0 {
		t.Fatalf("the hub has %d connections, %d bytes, %d that leave", h.Len(), held, leaving)
	}
	if away, shadows := len(h.moves.away), len(h.moves.shadow); away+shadows != 0 {
		t.Fatalf("%d departures and %d shadows are left", away, shadows)
	}
}

// comeBack resumes a connection at a hub.
func comeBack(t testing.TB, h *Hub, id ConnectionID, token string) *client {
	t.Helper()
	r, err := h.Resume(t.Context(), DefaultNamespace, string(id), token)
	must(t, "resume", err)
	l := &memory{connection: r.Connection}
	must(t, "bind", r.Bind(l))
	return &client{r.Connection, l}
}

func stateOf(c *Connection) *State {
	c.mu.Lock()
	defer c.mu.Unlock()
	copied := &State{}
	copied.adoptFrom(&c.state)
	return copied
}

// staysBehind are the fields of State that a move does not take along as they are, with the reason.
var staysBehind = map[string]string{
	"stage":  "says which side of the move it is",
	"Epoch":  "is one more",
	"Phase":  "is detached",
	"Close":  "is nil: what is closed does not move",
	"Outbox": "is in Snapshot.Undelivered",
}

// fullConnection returns a connection with each field of its State filled, and its token. Of five
// messages the client has confirmed one, two are written, and two wait.
func fullConnection(t testing.TB, h *Hub) (*client, string) {
	c := connectAs(t, h, numbered{}, "ann", "g", "h")
	_, err := c.Emit(&ClientEvent{Name: "clicked"})
	must(t, "emit", err)
	must(t, "grant", c.addGrants(
		grants(revoked(joining("b"))),
	))
	for _, command := range []uint64{1, 2, 9} {
		c.Done(command)
	}
	token := c.link.token(t)
	c.resume(t, token) // so that there is a proven token
	token = c.link.token(t)
	for i := range 5 {
		c.link.stall(i > 2)
		s := toGroup("g", fmt.Sprint(i))
		s.Policy, s.ConflationKey = overflow.Conflate, fmt.Sprint("key ", i)
		send(t, h, s)
	}
	must(t, "ack", c.Ack(1))
	return c, token
}

// TestAMoveTakesAllOfAConnectionAlong: each field of a connection is in the snapshot, or among
// those that a move drops. A new field that is in neither fails here.
func TestAMoveTakesAllOfAConnectionAlong(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Connection]()) {
		dropped := f.Type == reflect.TypeFor[carriage]() || f.Type == reflect.TypeFor[places]()
		fixed := []string{"mu", "namespace", "dialect", "state"}
		if len(f.Index) == 1 && !dropped && !slices.Contains(fixed, f.Name) {
			t.Errorf("Connection.%s: put it into State, or into carriage or places", f.Name)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		from, to := newHub(t), newHub(t)
		c, _ := fullConnection(t, from)
		time.Sleep(time.Second)
		c.lose()
		p := &passage{t, from, to, c.ID()}
		before := stateOf(c.Connection)
		s := p.freeze()
		for _, f := range reflect.VisibleFields(reflect.TypeFor[State]()) {
			_, there := reflect.TypeFor[Snapshot]().FieldByName(f.Name)
			if there == (staysBehind[f.Name] != "") && f.Name != "Phase" && f.Name != "Epoch" {
				t.Errorf("State.%s: put it into Snapshot, or into staysBehind", f.Name)
			}
		}
		for _, f := range reflect.VisibleFields(reflect.TypeFor[Snapshot]()) {
			if reflect.ValueOf(*s).FieldByIndex(f.Index).IsZero() {
				t.Errorf("Snapshot.%s is empty: fill it in this test", f.Name)
			}
		}
		p.adopt(s)
		p.seal()
		p.commit()
		got := movable(stateOf(find(t, to, c.ID())))
		want := movable(before)
		want.Epoch++
		if diff := cmp.Diff(want, got, sameStates...); diff != "" {
			t.Error(diff)
		}
		checkRest(t, from, to)
		checkEmpty(t, from)
	})
}

var sameStates = []cmp.Option{
	cmp.AllowUnexported(State{}, outbox{}, permission.Grants{}, ranges.Set{}),
	cmp.Comparer(func(a, b *Envelope) bool {
		return a.Message == b.Message && a.Route == b.Route && a.ConflationKey == b.ConflationKey &&
			string(a.shared) == string(b.shared) && reflect.TypeFor[Envelope]().NumField() == 5
	}),
}

// movable returns a state without its stage, which a move changes.
func movable(s *State) *State {
	s.stage = transfer.Live
	return s
}

// find returns a connection of a hub.
func find(t testing.TB, h *Hub, id ConnectionID) *Connection {
	t.Helper()
	c, err := h.findConnection(DefaultNamespace, string(id))
	must(t, "find", err)
	return c
}

// TestAMovedConnectionGoesOnWhereItWas: with its sequence ids and its tail, in its groups, with its
// grants, its commands and the numbers of its events.
func TestAMovedConnectionGoesOnWhereItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen ordinals
		from, to := newHub(t), newHub(t, observe(&seen))
		c, token := fullConnection(t, from)
		p := &passage{t, from, to, c.ID()}
		p.adopt(p.freeze())
		p.seal()
		p.commit()
		if diff := cmp.Diff([]cause.CloseStatus{drained}, c.link.closed); diff != "" {
			t.Errorf("the old link was closed: %s", diff)
		}
		back := comeBack(t, to, c.ID(), token)
		send(t, to, toGroup("g", "5"))
		send(t, to, toGroup("h", "6"))
		send(t, to, &Send{Message: text("7"), Target: Target{Users: []string{"ann"}}})
		toIt := Target{Connections: []string{string(c.ID())}}
		send(t, to, &Send{Message: text("8"), Target: toIt})
		want := []string{
			"2 gg:1", "3 gg:2", "4 gg:3", "5 gg:4", "6 gg:5", "7 gh:6", "8 u:7", "9 c:8",
		}
		if diff := cmp.Diff(want, back.link.numberedFrames(t)); diff != "" {
			t.Error(diff)
		}
		if !back.Did(9) || back.Did(3) || back.May(joining("b")) {
			t.Error("commands that succeeded, or grants, are not those of before")
		}
		must(t, "ack", back.Ack(9))
		_, err := back.Emit(&ClientEvent{Name: "clicked"})
		must(t, "emit", err)
		if diff := cmp.Diff(ordinals{fmt.Sprintf("%d 3", OpEvent)}, seen); diff != "" {
			t.Errorf("events of the new hub: %s", diff)
		}
		checkRest(t, from, to)
		checkEmpty(t, from)
		if held := to.holdings.total.bytes.Load(); held != 0 {
			t.Errorf("%d bytes are held of a client that has confirmed all", held)
		}
	})
}

// TestMessagesDuringAMoveArriveOnceAndInOrder, at whatever step they are sent. The old hub matches
// up to Seal, the new hub from Commit on; in between neither does.
func TestMessagesDuringAMoveArriveOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newHub(t), newHub(t)
		c := connectAs(t, from, numbered{}, "ann", "g")
		token := c.link.token(t)
		p := &passage{t, from, to, c.ID()}
		var sent []*Delivery
		sendAt := func(h *Hub, text string) {
			t.Helper()
			d := send(t, h, toGroup("g", text))
			if d.Receipt().Matched != 1 {
				t.Fatalf("%s matches nothing", text)
			}
			sent = append(sent, d)
			checkRest(t, from, to)
		}
		sendAt(from, "before")
		s := p.freeze()
		sendAt(from, "frozen")
		p.adopt(s)
		sendAt(from, "adopted")
		p.change()
		sendAt(from, "changed")
		p.seal()
		for name, h := range map[string]*Hub{"old": from, "new": to} {
			if r := send(t, h, toGroup("g", "sealed")).Receipt(); r.Matched != 0 {
				t.Errorf("a sealed connection matches at the %s hub", name)
			}
		}
		must(t, "commit", to.Moves().Commit(c.ID()))
		sendAt(to, "committed")
		_, err := from.Moves().Release(c.ID(), drained)
		must(t, "release", err)
		sendAt(to, "released")
		back := comeBack(t, to, c.ID(), token)
		want := []string{
			"1 gg:before", "2 gg:frozen", "3 gg:adopted",
			"4 gg:changed", "5 gg:committed", "6 gg:released",
		}
		if diff := cmp.Diff(want, back.link.numberedFrames(t)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"1 gg:before"}, c.link.numberedFrames(t)); diff != "" {
			t.Errorf("at the old link: %s", diff)
		}
		wantFates := map[string]int{"written": 3, "in_transfer": 3}
		if diff := cmp.Diff(wantFates, receipts(t, sent)); diff != "" {
			t.Errorf("fates: %s", diff)
		}
	})
}

// TestAMessageThatMissesTheMoveIsNamed: it matched the connection before Seal and reached it after.
func TestAMessageThatMissesTheMoveIsNamed(t *testing.T) {
	from, to := newHub(t), newHub(t)
	p := &passage{t: t, from: from, to: to}
	routes := 0
	moving := &hooked{&routes, func() { p.seal(); p.commit() }}
	first := connectAs(t, from, numbered{}, "bob", "g") // encoded first, and moves ann
	_ = first
	c := connectAs(t, from, numbered{}, "ann")
	p.id = c.ID()
	p.adopt(p.freeze())
	eve := Admission{Namespace: DefaultNamespace, User: "eve", Protocol: moving}
	hook, err := from.Attach(t.Context(), eve)
	must(t, "attach", err)
	must(t, "bind", hook.Bind(&memory{connection: hook}))
	d := send(t, from, &Send{Message: text("hi"), Target: Target{Users: []string{"eve", "ann"}}})
	if diff := cmp.Diff([]ConnectionID{c.ID()}, d.Strayed()); diff != "" {
		t.Errorf("strayed: %s", diff)
	}
	if r := d.Receipt(); r.Matched != 2 || r.InTransfer != 1 || r.Written != 1 {
		t.Errorf("receipt %+v", r)
	}
	stone, known := from.Moves().Tombstone(c.ID())
	if want := (transfer.Tombstone{Hub: string(to.ID()), Epoch: 2}); stone != want || !known {
		t.Errorf("tombstone %+v, %t, want %+v", stone, known, want)
	}
}

// hooked is a protocol that calls f when it encodes.
type hooked struct {
	calls *int
	f     func()
}

func (*hooked) Name() string         { return "hooked" }
func (*hooked) RouteKey(Route) Route { return Route{} }
func (h *hooked) Encode(m *Message, _ Route) []byte {
	if *h.calls++; *h.calls == 1 {
		h.f()
	}
	return appendFrame(nil, m.Payload)
}

func (*hooked) AppendGreeting(dst []byte, _ Info, _ string) []byte { return dst }

func (*hooked) AppendReply(dst []byte, _ PayloadKind, message []byte) []byte {
	return appendFrame(dst, message)
}

// TestAFailedMoveLeavesTheConnectionAsItWas, at whatever step it fails, with and without a link.
func TestAFailedMoveLeavesTheConnectionAsItWas(t *testing.T) {
	steps := []func(p *passage, s *Snapshot){
		func(p *passage, s *Snapshot) { p.adopt(s) },
		func(p *passage, _ *Snapshot) { p.change() },
		func(p *passage, _ *Snapshot) { p.seal() },
	}
	for _, detached := range []bool{false, true} {
		for done := range len(steps) + 1 {
			t.Run(fmt.Sprintf("after %d steps, detached %t", done, detached), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { failMove(t, detached, steps[:done]) })
			})
		}
	}
}

func failMove(t *testing.T, detached bool, steps []func(*passage, *Snapshot)) {
	from, to := newHub(t), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	token := c.link.token(t)
	send(t, from, toGroup("g", "one"))
	if detached {
		c.lose()
	}
	p := &passage{t, from, to, c.ID()}
	s := p.freeze()
	d := send(t, from, toGroup("g", "two"))
	for _, step := range steps {
		step(p, s)
	}
	checkRest(t, from, to)
	p.fail()
	checkRest(t, from, to)
	checkEmpty(t, to)
	if _, known := from.Moves().Tombstone(c.ID()); known {
		t.Error("a tombstone is left")
	}
	send(t, from, toGroup("g", "three"))
	if r := d.Receipt(); r.InTransfer != 0 || detached != (r.QueuedDetached == 1) {
		t.Errorf("receipt %+v", r)
	}
	back := c
	if detached {
		back = comeBack(t, from, c.ID(), token)
	}
	want := []string{"1 gg:one", "2 gg:two", "3 gg:three"}
	if diff := cmp.Diff(want, back.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	if n := from.Count(DefaultNamespace, &Target{Users: []string{"ann"}}); n != 1 {
		t.Errorf("the user matches %d connections", n)
	}
	if detached { // the window goes on where it was
		back.lose()
		time.Sleep(DefaultConfig().ResumeWindow - time.Second)
		p.apply(nil, nil)
		p.freeze()
		p.seal2()
		must(t, "thaw", from.Moves().Thaw(c.ID()))
		time.Sleep(2 * time.Second)
		if how, ended := back.Ended(); !ended || how.Cause != cause.ResumeExpired {
			t.Errorf("after the resume window: ended %t, %v", ended, how)
		}
	}
}

// seal2 is seal without a new hub.
func (p *passage) seal2() {
	p.t.Helper()
	_, err := p.from.Moves().Seal(p.id)
	must(p.t, "seal", err)
}

// TestABudgetThatRefusesAMoveLeavesTheConnection: its messages have no room at the new hub, at
// first or when more come meanwhile. No connection there is closed for it.
func TestABudgetThatRefusesAMoveLeavesTheConnection(t *testing.T) {
	const mega = 1_000_000
	for name, config := range map[string]func(*Config){
		"of the hub":       func(c *Config) { c.HeldBytes = minHeldBytes },
		"of the namespace": func(c *Config) { c.NamespaceHeldBytes = minHeldBytes },
	} {
		for _, before := range []int{1, 8} { // messages of two million bytes, with their forms
			t.Run(fmt.Sprintf("%s, %d before", name, before), func(t *testing.T) {
				from := newHub(t, func(c *Config) { c.Outbox.Bytes = 100 * mega })
				to := newHub(t, config)
				c := connectAs(t, from, numbered{}, "ann", "g")
				there := connectAs(t, to, numbered{}, "bob")
				big := strings.Repeat("x", mega)
				send(t, to, &Send{Message: text(big), Target: Target{Users: []string{"bob"}}})
				for range before {
					send(t, from, toGroup("g", big))
				}
				p := &passage{t, from, to, c.ID()}
				s := p.freeze()
				err := to.Moves().Adopt(s, 2, numbered{})
				sent := before
				for ; err == nil; sent++ {
					send(t, from, toGroup("g", big))
					var changes []Op
					changes, err = from.Moves().Changes(c.ID())
					must(t, "changes", err)
					for _, op := range changes {
						err = errors.Join(err, to.Moves().Apply(c.ID(), op))
					}
				}
				if !errors.Is(err, transfer.ErrMemory) {
					t.Fatalf("adopted beyond the budget: %v", err)
				}
				checkRest(t, from, to)
				p.fail()
				checkRest(t, from, to)
				if _, ended := there.Ended(); ended || to.Len() != 1 {
					t.Errorf("closed at the new hub: %t; it has %d connections", ended, to.Len())
				}
				if got := len(c.link.numberedFrames(t)); got != sent {
					t.Errorf("the client has %d messages, want %d", got, sent)
				}
			})
		}
	}
}

// TestAMoveWaitsForTheCommandInHand, and keeps the link from being read until it is over.
func TestAMoveWaitsForTheCommandInHand(t *testing.T) {
	for _, fails := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			from, to := newHub(t), newHub(t)
			c := connectAs(t, from, numbered{}, "ann", "g")
			p := &passage{t, from, to, c.ID()}
			if !c.Turn(c.link) {
				t.Fatal("no turn")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := from.Moves().Freeze(ctx, c.ID(), to.ID())
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("froze in the middle of a command: %v", err)
			}
			var wg sync.WaitGroup
			var s *Snapshot
			wg.Go(func() { s = p.freeze() })
			synctest.Wait()
			must(t, "join", c.Join(t.Context(), "late"))
			c.EndTurn()
			wg.Wait()
			if !slices.Contains(s.Groups, "late") {
				t.Error("the command in hand is not in the snapshot")
			}
			reads := false
			wg.Go(func() { reads = c.Turn(c.link) })
			synctest.Wait()
			p.adopt(s)
			if fails {
				p.fail()
			} else {
				p.seal()
				p.commit()
			}
			wg.Wait()
			if reads != fails {
				t.Errorf("the link is read: %t; the move failed: %t", reads, fails)
			}
		})
	}
}

// TestALinkThatReportsDuringAMoveIsHeard: it had taken messages before, and writes them while the
// connection moves, even after Seal.
func TestALinkThatReportsDuringAMoveIsHeard(t *testing.T) {
	from, to := newHub(t), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	l := &manual{}
	must(t, "bind", c.Bind(l))
	var sent []*Delivery
	for range 3 {
		sent = append(sent, send(t, from, toGroup("g", "hi")))
	}
	if !c.Take(l, &l.batch, 1<<20) || l.batch.Units(len(l.batch.Bytes)) != 3 {
		t.Fatal("the link has not taken three messages")
	}
	p := &passage{t, from, to, c.ID()}
	p.adopt(p.freeze())
	c.Written(l, 1)
	p.seal()
	c.Written(l, 1)
	if fates := receipts(t, sent); fates["written"] != 2 {
		t.Errorf("before the release: %v", fates)
	}
	must(t, "commit", to.Moves().Commit(c.ID()))
	_, err := from.Moves().Release(c.ID(), drained)
	must(t, "release", err)
	c.Written(l, 1) // too late
	c.Unbind(l, drained)
	want := map[string]int{"written": 2, "in_transfer": 1}
	if diff := cmp.Diff(want, receipts(t, sent)); diff != "" {
		t.Errorf("fates: %s", diff)
	}
	moved := find(t, to, c.ID())
	if got := stateOf(moved).Written; got != 1 {
		t.Errorf("written up to %d at the new hub", got)
	}
	must(t, "ack", moved.Ack(3))
	checkRest(t, from, to)
	if held := to.holdings.total.bytes.Load(); held != 0 {
		t.Errorf("%d bytes are held of a client that has confirmed all", held)
	}
}

// TestAConnectionIsOnOneMoveAtATime, and no link takes it meanwhile.
func TestAConnectionIsOnOneMoveAtATime(t *testing.T) {
	from, to := newHub(t), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	p := &passage{t, from, to, c.ID()}
	token := c.link.token(t)
	freeze := func(id ConnectionID) error {
		_, err := from.Moves().Freeze(t.Context(), id, to.ID())
		return err
	}
	resume := func(h *Hub) error {
		_, err := h.Resume(t.Context(), DefaultNamespace, string(c.ID()), token)
		return err
	}
	check := func(what string, got, want error) {
		t.Helper()
		if !errors.Is(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	plain := connect(t, from, "bob")
	check("freeze of a plain connection", freeze(plain.ID()), ErrResumeRefused)
	check("freeze of none", freeze("x"), ErrConnectionNotFound)
	s := p.freeze()
	check("freeze again", freeze(c.ID()), transfer.ErrMoving)
	check("resume of a moving one", resume(from), transfer.ErrMoving)
	check("a link for a moving one", c.Bind(&memory{connection: c.Connection}), transfer.ErrMoving)
	_, err := from.Moves().Release(c.ID(), drained)
	check("release before seal", err, transfer.ErrMoving)
	check("commit of none", to.Moves().Commit(c.ID()), transfer.ErrMoving)
	check("a stale epoch", to.Moves().Adopt(s, s.Epoch, numbered{}), transfer.ErrStale)
	check("its own connection", from.Moves().Adopt(s, s.Epoch+1, numbered{}), transfer.ErrStale)
	broken := *s
	broken.Sequence++
	check("a broken snapshot", to.Moves().Adopt(&broken, 2, numbered{}), transfer.ErrBroken)
	check("a plain protocol", to.Moves().Adopt(s, 2, routed{}), transfer.ErrBroken)
	p.adopt(s)
	check("adopt again", to.Moves().Adopt(s, 3, numbered{}), transfer.ErrMoving)
	for _, op := range []Op{
		{Kind: OpDrop},
		{Kind: OpAck, Sequence: 9},
		{Kind: OpLeave, Group: "x"},
		{Kind: OpClose},
		{Kind: OpPush},
	} {
		check(fmt.Sprintf("op %d", op.Kind), to.Moves().Apply(c.ID(), op), transfer.ErrBroken)
	}
	check("resume of a shadow", resume(to), ErrConnectionNotFound)
	p.seal()
	_, err = from.Moves().Seal(c.ID())
	check("seal again", err, transfer.ErrMoving)
	check("join of a sealed one", c.Join(t.Context(), "x"), ErrClosed)
	check("ack of a sealed one", c.Ack(0), ErrClosed)
	check("resume of a sealed one", resume(from), ErrConnectionNotFound)
	p.commit()
	check("thaw of one that has gone", from.Moves().Thaw(c.ID()), transfer.ErrMoving)
	check("the old epoch", from.Moves().Adopt(s, 2, numbered{}), transfer.ErrStale)
	home := &passage{t, to, from, c.ID()}
	home.adopt(home.freeze())
	home.seal()
	home.commit()
	if got := stateOf(find(t, from, c.ID())).Epoch; got != 3 {
		t.Errorf("epoch %d after two moves", got)
	}
	if _, known := from.Moves().Tombstone(c.ID()); known {
		t.Error("a connection that is back has a tombstone")
	}
	checkEmpty(t, to)
	_ = comeBack(t, from, c.ID(), token)
	checkRest(t, from, to)
}

// TestACloseDuringAMoveIsNotLost: before Seal it ends the move, after it the caller learns of it.
func TestACloseDuringAMoveIsNotLost(t *testing.T) {
	kicked := cause.Backend.CloseStatus()
	for name, steps := range map[string]func(*passage) error{
		"before seal": func(p *passage) error {
			p.to.Moves().hub.Len()
			_, err := p.from.Moves().Seal(p.id)
			return errors.Join(err, p.to.Moves().Abandon(p.id), p.from.Moves().Thaw(p.id))
		},
	} {
		from, to := newHub(t), newHub(t)
		c := connectAs(t, from, numbered{}, "ann", "g")
		p := &passage{t, from, to, c.ID()}
		p.adopt(p.freeze())
		c.Close(kicked)
		if err := steps(p); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
		checkEmpty(t, from)
		checkEmpty(t, to)
	}
	for _, thaws := range []bool{true, false} {
		var ends, none kinds
		from, to := newHub(t, observeCloses(&ends)), newHub(t, observeCloses(&none))
		c := connectAs(t, from, numbered{}, "ann", "g")
		p := &passage{t, from, to, c.ID()}
		p.adopt(p.freeze())
		p.seal()
		c.Close(kicked)
		if thaws {
			p.fail()
			if how, ended := c.Ended(); !ended || how != kicked || len(ends) != 1 {
				t.Errorf("after a thaw: ended %t, %v, told %d times", ended, how, len(ends))
			}
			checkEmpty(t, from)
			continue
		}
		must(t, "commit", to.Moves().Commit(c.ID()))
		ended, err := from.Moves().Release(c.ID(), drained)
		must(t, "release", err)
		if ended == nil || *ended != kicked || len(ends) != 0 {
			t.Errorf("release says %v; the old hub told of %d ends", ended, len(ends))
		}
		find(t, to, c.ID()).Close(*ended)
		if len(none) != 1 {
			t.Errorf("the new hub told of %d ends", len(none))
		}
	}
}

// TestAMoveThatFallsBehindFails: the changes that wait for the new hub have a bound.
func TestAMoveThatFallsBehindFails(t *testing.T) {
	from, to := newHub(t), newHub(t)
	c := connectAs(t, from, numbered{}, "ann", "g")
	p := &passage{t, from, to, c.ID()}
	p.adopt(p.freeze())
	for range transfer.MaxChanges {
		s := toGroup("g", "x")
		s.Policy = overflow.DropOldest
		send(t, from, s)
	}
	if _, err := from.Moves().Seal(c.ID()); !errors.Is(err, transfer.ErrBehind) {
		t.Errorf("got %v", err)
	}
	p.fail()
	checkEmpty(t, to)
	if n := len(c.link.numberedFrames(t)); n != DefaultConfig().Outbox.Messages {
		t.Errorf("the client has %d messages", n)
	}
}

// TestSendersThatDoNotWaitForAMoveLoseNothing: while a connection goes to and fro, several senders
// send to it through whichever hub matches, and its client comes back to it again and again.
func TestSendersThatDoNotWaitForAMoveLoseNothing(t *testing.T) {
	const senders, each = 4, 200
	hubs := [2]*Hub{newHub(t, unbounded), newHub(t, unbounded)}
	c := connectAs(t, hubs[0], numbered{}, "ann", "g")
	token := c.link.token(t)
	var wg sync.WaitGroup
	for sender := range senders {
		wg.Go(func() {
			for i := range each {
				m := fmt.Sprintf("%d/%d", sender, i)
				for at := 0; ; at++ {
					d, err := hubs[at%2].Deliver(t.Context(), toGroup("g", m))
					if err != nil {
						t.Error(err)
						return
					}
					if r := d.Receipt(); r.Matched == 1 && d.Strayed() == nil {
						break
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var got []string
	seen := 0 // the last sequence id
	read := func(l *memory) {
		for _, frame := range l.numberedFrames(t) {
			var sequence int
			var m string
			_, err := fmt.Sscanf(frame, "%d gg:%s", &sequence, &m)
			must(t, "scan", err)
			if sequence == seen+1 {
				seen++
				got = append(got, m)
			}
		}
	}
	back := c
	for moves := 0; ; moves++ {
		finished := false
		select {
		case <-done:
			finished = true
		default:
		}
		p := &passage{t, hubs[moves%2], hubs[(moves+1)%2], c.ID()}
		p.adopt(p.freeze())
		p.change()
		p.seal()
		p.commit()
		read(back.link)
		back = comeBack(t, p.to, c.ID(), token)
		token = back.link.token(t)
		must(t, "ack", back.Ack(uint64(seen)))
		if finished {
			break
		}
	}
	read(back.link)
	if len(got) != senders*each {
		t.Fatalf("%d messages arrived, want %d", len(got), senders*each)
	}
	next := map[string]int{}
	for _, m := range got {
		sender, i, _ := strings.Cut(m, "/")
		if i != fmt.Sprint(next[sender]) {
			t.Fatalf("%s comes after %d of its sender", m, next[sender])
		}
		next[sender]++
	}
	must(t, "ack", back.Ack(uint64(seen)))
	checkRest(t, hubs[:]...)
	for _, h := range hubs {
		if held := h.holdings.total.bytes.Load(); held != 0 {
			t.Errorf("%d bytes are held of a client that has confirmed all", held)
		}
	}
	back.Close(cause.Client.CloseStatus())
}

// unbounded has a hub close no connection for its outbox.
func unbounded(c *Config) { c.Outbox.Messages = 1 << 20 }
