package hub

import (
	"context"
	"strconv"
	"sync"

	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/chunks"
	"github.com/connhub/connhub/internal/fairshare"
)

// Send is one message and its target.
type Send struct {
	// Message is shared with all connections that get it, and must not change any more.
	Message *Message
	// Target names the connections.
	Target Target
	// Wait says how far the message must come before Delivery.Wait returns.
	Wait Wait
	// Policy decides if an outbox is full; overflow.Default: that of the namespace, or else of the
	// hub.
	Policy overflow.Policy
	// ConflationKey is for overflow.Conflate alone.
	ConflationKey string

	// RequestID is the key under which the hub remembers the send; empty: it does not.
	RequestID string
	// Caller is the backend that RequestID belongs to.
	Caller string
	// RequestHash is a hash of the request. The hub refuses the same id with a different hash.
	RequestHash [32]byte

	// Detail has the receipt list the names that matched no connection.
	Detail bool

	// Burst gathers the links to flush, for a later flush by the caller; nil: Deliver flushes them
	// before it returns.
	Burst *Burst
}

// Burst gathers the links of several sends in a row, so that each link writes once for all of them.
// The zero Burst is empty. It is for a single goroutine, which must call Flush soon in any case:
// until then the clients get nothing.
type Burst struct {
	links   []Link
	pushed  []pushedMessage
	matched int // of all sends
}

// pushedMessage is a message that is in outboxes. As a rule no outbox has it any more when the
// links have written.
type pushedMessage struct {
	namespace *namespace
	tally     *tally
	bytes     int64
}

// Flush has the links write, and empties the Burst.
func (b *Burst) Flush() {
	flushLinks(b.links)
	for _, p := range b.pushed {
		p.namespace.hub.holdings.countMessage(p.namespace, p.tally, p.bytes)
	}
	b.clear()
}

// Writes returns how often links will be asked to write: about as often as Flush will write.
func (b *Burst) Writes() int { return len(b.links) }

// Matched returns the matches of all sends together.
func (b *Burst) Matched() int { return b.matched }

// Append moves the sends of next, which are later ones, to b. It leaves next empty.
func (b *Burst) Append(next *Burst) {
	b.links, b.pushed = append(b.links, next.links...), append(b.pushed, next.pushed...)
	b.matched += next.matched
	next.clear()
}

// linksKept is the most links that an empty Burst keeps memory for.
const linksKept = 1024

// clear empties the Burst.
func (b *Burst) clear() {
	clear(b.links)
	clear(b.pushed)
	b.links, b.pushed, b.matched = b.links[:0], b.pushed[:0], 0
	if cap(b.links) > linksKept {
		b.links = nil
	}
}

// Deliver pushes a message to the outbox of every connection that matches, and returns once all of
// them have it. So the messages of a caller that sends again after that arrive in order. It does
// not wait for clients.
//
// It returns ErrShuttingDown, ErrRequestIDReused, or the error of ctx if ctx ends while a duplicate
// waits for the first call.
func (h *Hub) Deliver(ctx context.Context, s *Send) (*Delivery, error) {
	if h.Leaving() {
		return nil, ErrShuttingDown
	}
	if s.RequestID == "" {
		left := &delivered{}
		d := &left.delivery
		if s.Detail {
			// An outbox keeps left alive, and must not keep the unmatched names.
			d = new(Delivery)
		}
		*d = Delivery{tally: &left.tally, wait: s.Wait}
		h.pushToMatches(s, d, &left.envelope)
		return d, nil
	}
	// The tally is allocated by itself: the hub remembers it for longer than the message.
	t := &tally{pushed: make(chan struct{})}
	asked := requestOf(s)
	switch first, known, same := h.requests.Begin(asked, t); {
	case known && !same:
		return nil, ErrRequestIDReused
	case known:
		return awaitFirstSend(ctx, s, first)
	}
	finished := false
	defer func() {
		// A protocol panicked: a retry counts as a new request.
		if !finished {
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

// delivered is the memory that a send leaves behind, in a single allocation.
type delivered struct {
	delivery Delivery
	tally    tally
	envelope Envelope
}

// awaitFirstSend returns the Delivery of a duplicate, once the first send has reached every outbox.
func awaitFirstSend(ctx context.Context, s *Send, first *tally) (*Delivery, error) {
	select {
	case <-first.pushed:
		return &Delivery{tally: first, wait: s.Wait, duplicate: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// pushToMatches fills in d, and uses first for the first envelope.
func (h *Hub) pushToMatches(s *Send, d *Delivery, first *Envelope) {
	f := fanouts.Get().(*fanout)
	defer f.returnToPool()
	// This runs also when a protocol panics: later sends rely on it.
	defer f.flushOrDefer(s.Burst)

	if s.Message.ID == "" {
		s.Message.ID = h.NewMessageID()
	}
	if record := h.config.Recorder; record != nil {
		// Recorder gets a copy: s itself would then cost each send an allocation, even without a
		// recorder.
		recorded := *s
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
		s.Burst.matched += len(f.matches)
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
	prefix := append(append(b[:0], h.config.ID...), '.')
	return string(strconv.AppendUint(prefix, h.messages.Add(1), 36))
}

// policyOf returns the overflow policy of a send, or else of its namespace, or else of the hub.
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
	// unused is memory for the first envelope.
	unused *Envelope
	// firstKey is the key of first.
	firstKey encodingKey
	// first is the first envelope. As a rule there are no more, and the map is not needed.
	first *Envelope
	// envelopes are all but the first.
	envelopes map[encodingKey]*Envelope
	// last is the matchKey of the previous match: most often the next match has the same.
	last matchKey
	// current is the envelope for last.
	current *Envelope
	links   []Link
	// bytes is the size of the payload and of all encodings.
	bytes int64
}

// matchKey has all of a match that decides its encodingKey.
type matchKey struct {
	dialect *dialect
	kind    RouteKind
	group   int32
}

// encodingKey is the key under which a message is encoded once.
type encodingKey struct {
	dialect *dialect
	route   Route // of Protocol.RouteKey
}

// envelopesKept is the largest size of a map that is kept for reuse. Clearing a larger map would
// cost every small send after a send to many groups.
const envelopesKept = 1024

var fanouts = sync.Pool{New: func() any { return &fanout{envelopes: map[encodingKey]*Envelope{}} }}

func (f *fanout) returnToPool() {
	f.resetMatches()
	if len(f.envelopes) > envelopesKept {
		f.envelopes = make(map[encodingKey]*Envelope)
	}
	clear(f.envelopes)
	f.unused, f.firstKey, f.first = nil, encodingKey{}, nil
	f.last, f.current = matchKey{}, nil
	fanouts.Put(f)
}

// envelopeFor returns the message encoded for a match. It encodes once for each encodingKey.
func (f *fanout) envelopeFor(s *Send, t *tally, m match) *Envelope {
	d := m.connection.dialect
	from := matchKey{d, m.kind, m.group}
	if f.current != nil && f.last == from {
		return f.current
	}
	want := encodingKey{d, d.RouteKey(m.routeOf(&s.Target))}
	e := f.findEnvelope(want)
	if e == nil {
		e = f.addEnvelope(want)
		shared := d.Encode(s.Message, want.route)
		*e = Envelope{Message: s.Message, Route: want.route, shared: shared, tally: t}
		f.bytes += int64(len(shared))
		if s.Policy == overflow.Conflate {
			e.ConflationKey = s.ConflationKey
		}
	}
	f.last, f.current = from, e
	return e
}

// findEnvelope returns the envelope of a key, or nil.
func (f *fanout) findEnvelope(want encodingKey) *Envelope {
	if f.firstKey == want {
		return f.first
	}
	return f.envelopes[want]
}

// addEnvelope returns a new envelope for a key. The caller fills it in.
func (f *fanout) addEnvelope(want encodingKey) *Envelope {
	if f.first == nil {
		f.firstKey, f.first = want, f.unused
		return f.first
	}
	e := new(Envelope)
	f.envelopes[want] = e
	return e
}

// flushOrDefer flushes the links that got messages, or leaves them to later if later is not nil.
func (f *fanout) flushOrDefer(later *Burst) {
	if later != nil {
		later.links = append(later.links, f.links...)
	} else {
		flushLinks(f.links)
	}
	clear(f.links)
	f.links = f.links[:0]
}

// flushLinks has links write their queues. It may run in parallel: each connection's outbox keeps
// its own order.
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

// pushAhead is how many connections ahead of a push the processor fetches the memory that the push
// will read. Half as many ahead it fetches the memory that the first points to. A push takes a
// third of the time that a cache line takes to come from memory.
const pushAhead = 8

// prefetchAhead fetches the memory of the matches behind the i-th.
func (f *fanout) prefetchAhead(i int) {
	if i += pushAhead / 2; i < len(f.matches) {
		f.matches[i].connection.Prefetch(1)
	}
	if i += pushAhead / 2; i < len(f.matches) {
		f.matches[i].connection.Prefetch(0)
	}
}
