package hub

import (
	"context"
	"strconv"
	"sync"

	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/chunks"
	"github.com/connhub/connhub/internal/fairshare"
)

// Send is one message and whom it is for.
type Send struct {
	Message       *Message
	Target        Target
	Wait          Wait
	Policy        overflow.Policy
	ConflationKey string // with Conflate

	RequestID   string   // empty: not remembered
	Caller      string   // whose request id it is
	RequestHash [32]byte // of what was asked: the same id with another hash is refused

	Detail bool // say which names matched nobody

	// Burst takes what there is to write, for later; nil: it is written before Deliver returns.
	Burst *Burst
}

// Burst gathers what several sends in a row have to write, so that each link writes once for all of them. The zero Burst is
// empty. It is for one goroutine, which must call Flush soon, whatever happens: until then the clients get nothing.
type Burst struct {
	links  []Link
	pushed []pushedMessage
}

// pushed is a message that is in outboxes; as a rule it is in none any more when the links have written.
type pushedMessage struct {
	namespace *namespace
	tally     *tally
	bytes     int64
}

// Flush has the links write. The Burst is empty then.
func (b *Burst) Flush() {
	flushLinks(b.links)
	clear(b.links)
	b.links = b.links[:0]
	for _, p := range b.pushed {
		p.namespace.hub.holdings.countMessage(p.namespace, p.tally, p.bytes)
	}
	clear(b.pushed)
	b.pushed = b.pushed[:0]
}

// Deliver pushes a message to the outbox of every connection that matches, and returns when all of them
// have it; a caller that sends again after that has its messages arrive in order. It does not wait for
// clients. Errors: ErrShuttingDown, ErrRequestIDReused, and that of ctx while a duplicate waits for the
// first call.
func (h *Hub) Deliver(ctx context.Context, s *Send) (*Delivery, error) {
	if h.Leaving() {
		return nil, ErrShuttingDown
	}
	if s.RequestID == "" {
		left := &delivered{}
		d := &left.delivery
		if s.Detail {
			d = new(Delivery) // an outbox keeps left, and must not keep the names that matched nobody
		}
		*d = Delivery{tally: &left.tally, wait: s.Wait}
		h.pushToMatches(s, d, &left.envelope)
		return d, nil
	}
	t := &tally{pushed: make(chan struct{})} // by itself: it is remembered for longer than the message
	asked := requestOf(s)
	switch first, known, same := h.requests.Begin(asked, t); {
	case known && !same:
		return nil, ErrRequestIDReused
	case known:
		return awaitFirstSend(ctx, s, first)
	}
	finished := false
	defer func() {
		if !finished { // a protocol panicked: a retry is a new request
			h.requests.Forget(asked, t)
		}
		close(t.pushed)
	}()
	d := &Delivery{tally: t, wait: s.Wait}
	h.pushToMatches(s, d, new(Envelope))
	finished = true
	return d, nil
}

func requestOf(s *Send) fairshare.Request {
	return fairshare.Request{
		Namespace: s.Message.Namespace, Caller: s.Caller, ID: s.RequestID, Hash: s.RequestHash,
	}
}

// delivered is what a send leaves behind, in one piece of memory.
type delivered struct {
	delivery Delivery
	tally    tally
	envelope Envelope
}

func awaitFirstSend(ctx context.Context, s *Send, first *tally) (*Delivery, error) {
	select {
	case <-first.pushed:
		return &Delivery{tally: first, wait: s.Wait, duplicate: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// deliver fills in d, and first with the message's first form.
func (h *Hub) pushToMatches(s *Send, d *Delivery, first *Envelope) {
	f := fanoutPool.Get().(*fanout)
	defer f.returnToPool()
	defer f.flushOrDefer(s.Burst) // also when a protocol panics: later sends count on it

	if s.Message.ID == "" {
		s.Message.ID = h.NewMessageID()
	}
	if record := h.config.Recorder; record != nil {
		recorded := *s // s itself would cost each send an allocation, with a recorder or without
		record(&recorded)
	}
	t := d.tally
	t.messageID = s.Message.ID
	ns := h.findNamespace(s.Message.Namespace)
	if unmatched := f.findMatches(ns, &s.Target, s.Detail); unmatched != nil {
		d.aside = &aside{unmatched: unmatched}
	}
	t.matched = int32(len(f.matches))
	h.metrics.addMatched(len(f.matches))

	f.unused, f.bytes = first, messageWeight(s.Message)
	policy := h.policyOf(s)
	for i, m := range f.matches {
		f.prefetchAhead(i)
		l, strayed := m.connection.pushMessage(f.envelopeFor(s, t, m), policy)
		if l != nil {
			f.links = append(f.links, l)
		}
		if strayed {
			d.addStray(m.connection.ID())
		}
	}
	switch {
	case len(f.matches) == 0:
	case s.Burst != nil:
		s.Burst.pushed = append(s.Burst.pushed, pushedMessage{ns, t, f.bytes})
	default:
		f.flushOrDefer(nil)
		h.holdings.countMessage(ns, t, f.bytes)
	}
}

// addStray notes a connection that has moved.
func (d *Delivery) addStray(id ConnectionID) {
	if d.aside == nil {
		d.aside = &aside{}
	}
	d.aside.strayed = append(d.aside.strayed, id)
}

// NewMessageID returns an id for a message that has none.
func (h *Hub) NewMessageID() string {
	var b [32]byte
	return string(strconv.AppendUint(append(append(b[:0], h.config.ID...), '.'), h.messages.Add(1), 36))
}

// policy is the send's, or else the namespace's, or else the hub's.
func (h *Hub) policyOf(s *Send) overflow.Policy {
	if s.Policy != overflow.Default {
		return s.Policy
	}
	if p, ok := h.config.NamespaceOverflow[s.Message.Namespace]; ok {
		return p
	}
	return h.config.Overflow
}

// fanout is the working memory of one Deliver; pooled.
type fanout struct {
	matcher
	unused    *Envelope          // memory for the first form
	form      form               // the first
	first     *Envelope          // of it; as a rule it is the only one, and the map is not needed
	envelopes map[form]*Envelope // of other forms
	last      origin             // of the match before: most often the next one's too
	current   *Envelope          // what it got
	links     []Link
	bytes     int64 // of the payload and of all forms
}

// origin is what a match's form follows from.
type origin struct {
	dialect *dialect
	kind    RouteKind
	group   int32
}

// form is what a message is encoded for.
type form struct {
	dialect *dialect
	key     Route
}

// formsKept is the size above which the map is not kept for reuse: clearing it would cost every small send after
// one to many groups.
const formsKept = 1024

var fanoutPool = sync.Pool{New: func() any { return &fanout{envelopes: make(map[form]*Envelope)} }}

func (f *fanout) returnToPool() {
	f.resetMatches()
	if len(f.envelopes) > formsKept {
		f.envelopes = make(map[form]*Envelope)
	}
	clear(f.envelopes)
	f.unused, f.form, f.first = nil, form{}, nil
	f.last, f.current = origin{}, nil
	fanoutPool.Put(f)
}

// envelope returns the message encoded for a match; each form is encoded once.
func (f *fanout) envelopeFor(s *Send, t *tally, m match) *Envelope {
	d := m.connection.dialect
	from := origin{d, m.kind, m.group}
	if f.current != nil && f.last == from {
		return f.current
	}
	want := form{d, d.RouteKey(m.routeOf(&s.Target))}
	e := f.findEnvelope(want)
	if e == nil {
		e = f.addEnvelope(want)
		*e = Envelope{Message: s.Message, Route: want.key, shared: d.Encode(s.Message, want.key), tally: t}
		f.bytes += int64(len(e.shared))
		if s.Policy == overflow.Conflate {
			e.ConflationKey = s.ConflationKey
		}
	}
	f.last, f.current = from, e
	return e
}

// known returns the envelope of a form, or nil.
func (f *fanout) findEnvelope(want form) *Envelope {
	if f.form == want {
		return f.first
	}
	return f.envelopes[want]
}

// add returns a new envelope for a form, to be filled in.
func (f *fanout) addEnvelope(want form) *Envelope {
	if f.first == nil {
		f.form, f.first = want, f.unused
		return f.first
	}
	e := new(Envelope)
	f.envelopes[want] = e
	return e
}

// write has every link write what it got, now or later.
func (f *fanout) flushOrDefer(later *Burst) {
	if later != nil {
		later.links = append(later.links, f.links...)
	} else {
		flushLinks(f.links)
	}
	clear(f.links)
	f.links = f.links[:0]
}

// flush has links write what is queued. Order on one connection is that of its outbox, so it may run in parallel.
func flushLinks(links []Link) {
	chunks.HandleAll(links, func(some []Link) {
		for i, l := range some {
			for step := range prefetchSteps {
				if ahead := i + prefetchSteps - step; ahead < len(some) {
					some[ahead].Prefetch(step)
				}
			}
			l.Flush()
		}
	})
}

// pushAhead is how many connections ahead of a push the processor fetches what the push will look at; half as many ahead,
// what that points to. A push takes a third of the time that a line takes to come from memory.
const pushAhead = 8

// prefetch gets what follows the i-th match near.
func (f *fanout) prefetchAhead(i int) {
	if i += pushAhead / 2; i < len(f.matches) {
		f.matches[i].connection.Prefetch(1)
	}
	if i += pushAhead / 2; i < len(f.matches) {
		f.matches[i].connection.Prefetch(0)
	}
}
