package events

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// sim is the core of a hub without its shell: connections cause events, and ways out take them. It
// keeps all events, and checks the promises of the package at every step:
//
//   - A way out gets the events that its filter selects, those of a connection in their order. Each
//     that is missing is in a gap of its connection, in its place, and only messages are.
//   - offerEvent's result for an event comes true: queued, or dropped.
//   - A way out that took all has nothing to take until it is woken.
//   - The room counts events that wait or are in flight, and reserves nothing without any.
//   - A subscription ends once, and gently only when its way out has got all.
//   - Without an account, the core does the same as a plainCore.
type sim struct {
	limits      Limits
	roster      roster
	ways        []*way // those that are subscribed, also those that are over
	connections []*life

	trace func(format string, args ...any)
	fail  func(format string, args ...any)
}

// life is a connection.
type life struct {
	identity hub.Identity
	ordinal  uint64
	isClosed bool
}

// way is a way out, with its subscription.
type way struct {
	name    string
	core    *core
	model   *plainCore      // nil: the subscription has an account
	account *countedAccount // may be nil

	due     map[hub.ConnectionID][]due
	flying  []Batch // taken and not released
	isAwake bool    // it will take again
	isOver  bool
}

// due is an event that a way out must get.
type due struct {
	event    *Event
	isQueued bool // as itself, not in a gap
}

func newSim() *sim {
	return &sim{
		limits: Limits{Messages: 1000, Bytes: 1 << 20, Standing: 1000}, roster: roster{limit: 64},
		trace: func(string, ...any) {},
		fail:  func(format string, args ...any) { panic(fmt.Sprintf(format, args...)) },
	}
}

// subscribe adds a way out.
func (s *sim) subscribe(name string, f Filter, a *countedAccount) error {
	if err := s.roster.admitOne(); err != nil {
		return err
	}
	w := &way{name: name, account: a, due: map[hub.ConnectionID][]due{}, isAwake: true}
	if a == nil {
		w.core = newCore(f, s.limits, nil)
		w.model = &plainCore{queue: plainQueue{limits: s.limits}}
	} else {
		w.core = newCore(f, s.limits, a)
	}
	s.ways = append(s.ways, w)
	if s.roster.isLeaving {
		s.goAwayAt(w)
	}
	return nil
}

// remove is for a way out that is over.
func (s *sim) remove(w *way) {
	s.ways = slices.DeleteFunc(s.ways, func(o *way) bool { return o == w })
	s.roster.removeOne()
	if s.roster.isGone() {
		s.trace("no subscription is left")
	}
}

// publish has an event of a connection happen. It returns how many ways out have it queued.
func (s *sim) publish(c *life, kind Kind, message *hub.ClientEvent) (queued int) {
	c.ordinal++
	e := &Event{Kind: kind, Identity: c.identity, Ordinal: c.ordinal, Message: message}
	if kind == KindDisconnected {
		c.isClosed, e.Close = true, cause.Client.CloseStatus()
	}
	for _, w := range s.ways {
		if !w.core.filter.selectsEvent(c.identity.Namespace, kind, message) {
			continue
		}
		fx := w.core.offerEvent(e)
		if w.model != nil {
			s.compare(w, fx, w.model.offer(*e))
		}
		if w.isOver && fx != (effects{}) {
			s.fail("%s is over, and %+v", w.name, fx)
		}
		id := c.identity.ID
		w.due[id] = append(w.due[id], due{e, fx.isQueued})
		switch {
		case fx.isQueued:
			queued++
			s.trace("%s gets %s", w.name, e.ID())
		case fx.dropped != 0:
			s.trace("%s misses %s: %v", w.name, e.ID(), fx.dropped)
		}
		s.carryOut(w, fx)
	}
	return queued
}

func (s *sim) compare(w *way, got, want effects) {
	if got != want {
		s.fail("%s: effects %+v, want %+v", w.name, got, want)
	}
}

func (s *sim) carryOut(w *way, fx effects) {
	if fx.wakes {
		w.isAwake = true
		s.trace("%s wakes", w.name)
	}
	if fx.isOver {
		if w.isOver {
			s.fail("%s is over twice", w.name)
		}
		w.isOver = true
		s.trace("%s is over: %v", w.name, w.core.err)
	}
}

func (s *sim) goAway() {
	s.roster.isLeaving = true
	for _, w := range s.ways {
		s.goAwayAt(w)
	}
}

func (s *sim) goAwayAt(w *way) {
	fx := w.core.goAway()
	if w.model != nil {
		s.compare(w, fx, w.model.goAway())
	}
	s.carryOut(w, fx)
}

// finish is Shutdown: it goes away first.
func (s *sim) finish() {
	s.goAway()
	s.roster.isEnding = true
	for _, w := range s.ways {
		wasOver := w.isOver
		fx := w.core.finishEvents()
		if w.model != nil {
			s.compare(w, fx, w.model.finish())
		}
		s.carryOut(w, fx)
		s.checkGentle(w, wasOver)
	}
	if s.roster.isGone() {
		s.trace("no subscription is left")
	}
}

// checkGentle holds that a way out that is over now has got all.
func (s *sim) checkGentle(w *way, wasOver bool) {
	if wasOver || !w.isOver {
		return
	}
	if !errors.Is(w.core.err, hub.ErrShuttingDown) || len(w.flying) > 0 || !w.core.hasTold {
		s.fail("%s is over: %v, %d in flight, told %t",
			w.name, w.core.err, len(w.flying), w.core.hasTold)
	}
	for id, rest := range w.due {
		if len(rest) > 0 {
			s.fail("%s is over, and %d events of %s have not come", w.name, len(rest), id)
		}
	}
}

// take has a way out take a batch, which is in flight then.
func (s *sim) take(w *way, most int, bytes int64) {
	b := w.core.takeBatch(nil, most, bytes)
	if w.model != nil {
		events, goingAway := w.model.take(most, bytes)
		got, want := fmt.Sprint(b.Events, b.GoingAway), fmt.Sprint(pointers(events), goingAway)
		if diff := cmp.Diff(want, got); diff != "" {
			s.fail("%s takes something else: %s", w.name, diff)
		}
	}
	if b.IsEmpty() {
		w.isAwake = false
		s.trace("%s takes nothing", w.name)
		return
	}
	w.flying = append(w.flying, b)
	for _, e := range b.Events {
		s.trace("%s takes %s", w.name, describe(e))
		w.see(e, s.fail)
	}
	if b.GoingAway {
		s.trace("%s takes that the hub leaves", w.name)
	}
}

// describe tells about an event in a line.
func describe(e *Event) string {
	switch {
	case e.Gap != 0:
		return fmt.Sprintf("a gap of %d, up to %s", e.Missing, e.ID())
	case e.Kind == KindMessage:
		return fmt.Sprintf("%s message %s", e.ID(), e.Message.Name)
	default:
		return fmt.Sprintf("%s %v", e.ID(), e.Kind)
	}
}

// see holds that an event is the next that the way out must get.
func (w *way) see(e *Event, fail func(string, ...any)) {
	id := e.Identity.ID
	rest := w.due[id]
	covers := int(max(1, e.Missing))
	if covers > len(rest) {
		fail("%s: %s, and %d events are due", w.name, describe(e), len(rest))
		return
	}
	for _, d := range rest[:covers] {
		if d.isQueued != (e.Gap == 0) && d.event.Kind == KindMessage {
			fail("%s: %s, and %s was queued: %t", w.name, describe(e), d.event.ID(), d.isQueued)
		}
		if e.Gap != 0 && d.event.Kind != KindMessage {
			fail("%s: %s stands for %s", w.name, describe(e), describe(d.event))
		}
	}
	last := rest[covers-1].event
	if last.Ordinal != e.Ordinal || e.Gap == 0 && last != e {
		fail("%s: %s, want %s", w.name, describe(e), describe(last))
	}
	w.due[id] = rest[covers:]
}

// release is for the batch that was taken first.
func (s *sim) release(w *way) {
	wasOver := w.isOver
	b := w.flying[0]
	w.flying = w.flying[1:]
	fx := w.core.releaseBatch(b)
	if w.model != nil {
		s.compare(w, fx, w.model.release())
	}
	s.carryOut(w, fx)
	s.checkGentle(w, wasOver)
}

func (s *sim) end(w *way, err error) {
	fx := w.core.endNow(err)
	if w.model != nil {
		s.compare(w, fx, w.model.end(err))
	}
	s.carryOut(w, fx)
}

// check holds the invariants between steps.
func (s *sim) check() {
	for _, w := range s.ways {
		if !w.isAwake && w.core.hasWork() {
			s.fail("%s sleeps, and there is something to take", w.name)
		}
		if w.isOver != (w.core.err != nil) || w.isOver && w.core.hasWork() {
			s.fail("%s: over %t, %v", w.name, w.isOver, w.core.err)
		}
		var held int64
		waiting := w.core.queue.events[w.core.queue.head:]
		for _, events := range append([][]*Event{waiting}, w.batches()...) {
			for _, e := range events {
				held += e.weight()
			}
		}
		if w.core.room.held != held {
			s.fail("%s holds %d bytes, counted are %d", w.name, held, w.core.room.held)
		}
		if a := w.account; a != nil && (a.held != w.core.room.reserved || held == 0 && a.held > 0) {
			s.fail("%s: %d of the account for %d bytes", w.name, a.held, held)
		}
	}
}

func (w *way) batches() (all [][]*Event) {
	for _, b := range w.flying {
		all = append(all, b.Events)
	}
	return all
}

// plainCore is a core that looks through all of its events each time. It has no filter and no
// account.
type plainCore struct {
	queue                   plainQueue
	flying                  int
	leaving, told, finished bool
	over                    bool
}

func (c *plainCore) offer(e Event) effects {
	if c.over {
		return effects{}
	}
	before := c.work()
	dropped, err := c.queue.put(e)
	fx := effects{isQueued: !dropped && err == nil, wakes: !before && err == nil}
	if dropped {
		fx.dropped = SubscriberSlow
	}
	if err != nil {
		fx.isOver = c.end(err).isOver
	}
	return fx
}

func (c *plainCore) work() bool {
	return !c.over && (len(c.queue.events) > 0 || c.leaving && !c.told)
}

func (c *plainCore) goAway() effects {
	before := c.work()
	c.leaving = true
	return effects{wakes: c.work() && !before}
}

func (c *plainCore) take(most int, bytes int64) (events []Event, goingAway bool) {
	if !c.work() {
		return nil, false
	}
	events, goingAway = c.queue.take(most, bytes), c.leaving && !c.told
	c.told = c.leaving
	c.flying++
	return events, goingAway
}

func (c *plainCore) finish() effects {
	c.finished = true
	return c.done()
}

func (c *plainCore) release() effects {
	c.flying--
	return c.done()
}

func (c *plainCore) done() effects {
	if c.over || !c.finished || c.work() || c.flying > 0 {
		return effects{}
	}
	return c.end(hub.ErrShuttingDown)
}

func (c *plainCore) end(error) effects {
	if c.over {
		return effects{}
	}
	c.over, c.queue.events = true, nil
	return effects{isOver: true}
}

// connection returns the connection of that id, which is in namespace x and has a user of its own
// unless it was opened otherwise.
func (s *sim) connection(id string) *life {
	for _, c := range s.connections {
		if string(c.identity.ID) == id {
			return c
		}
	}
	return nil
}

// connect opens a connection.
func (s *sim) connect(id hub.Identity) *life {
	c := &life{identity: id}
	s.connections = append(s.connections, c)
	s.publish(c, KindConnected, nil)
	return c
}

// newMessage returns a message with a payload of so many bytes.
func newMessage(name string, bytes int) *hub.ClientEvent {
	return &hub.ClientEvent{Name: name, Payload: []byte(strings.Repeat("x", bytes))}
}
