package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
)

// model is a connection that a child could write: plain slices, no shared bytes, no cursors.
type model struct {
	bounds, window Bounds
	numbered       bool

	phase   Phase
	stalled bool
	// when the resume window, or the patience with a full tail, is over; zero: neither runs
	ends     time.Time
	full     time.Time // since when the tail is, without an ack; zero: it is not
	queue    []*modelMessage
	tail     []*modelMessage // numbered and not acked
	sent     int             // of tail: given to the link that is there now
	sequence int
	got      []string // frames that the present link carried
	all      []*modelMessage
}

type modelMessage struct {
	text, key string
	expires   time.Time
	sequence  int
	fate      string // "", written, acked, or a drop reason
}

func (m *modelMessage) size() int64 { return int64(len(m.text)) }

func (m *model) drop(i int, r cause.DropReason) {
	m.queue[i].fate = r.String()
	m.queue = slices.Delete(m.queue, i, i+1)
}

func (m *model) bytes() (n int64) {
	for _, q := range m.queue {
		n += q.size()
	}
	return n
}

func (m *model) push(text, key string, policy overflow.Policy, expires time.Time) {
	e := &modelMessage{text: text, key: key, expires: expires}
	m.all = append(m.all, e)
	fits := func() bool {
		return len(m.queue) == 0 ||
			len(m.queue) < m.bounds.Messages && m.bytes()+e.size() <= m.bounds.Bytes
	}
	if m.phase == PhaseClosed {
		panic("a closed connection matches nothing")
	}
	if !fits() {
		m.flush() // an expired message counts as expired, and the policy does not see it
	}
	if policy == overflow.Conflate {
		if i := slices.IndexFunc(m.queue, func(q *modelMessage) bool {
			return q.key == key
		}); i >= 0 {
			if len(m.queue) == 1 || m.bytes()-m.queue[i].size()+e.size() <= m.bounds.Bytes {
				m.queue[i].fate = cause.DropConflated.String()
				m.queue[i] = e
				m.flush()
				return
			}
			m.drop(i, cause.DropConflated)
		}
	}
	if !fits() {
		for i, q := range slices.Backward(slices.Clone(m.queue)) {
			if !q.expires.IsZero() && !time.Now().Before(q.expires) {
				m.drop(i, cause.DropExpired)
			}
		}
	}
	for (policy == overflow.DropOldest ||
		policy == overflow.Conflate) && len(m.queue) > 0 && !fits() {
		m.drop(0, cause.DropOverflowOldest)
	}
	switch {
	case fits():
		m.queue = append(m.queue, e)
	case policy == overflow.CloseSlow:
		e.fate = cause.DropOverflowClose.String()
		m.close()
	default:
		e.fate = cause.DropOverflowNewest.String()
	}
	m.flush()
}

func (m *model) close() {
	m.phase = PhaseClosed
	for len(m.queue) > 0 {
		m.drop(0, cause.DropClosed)
	}
	m.tail = nil
}

// flush does the work of a link that is not stalled.
func (m *model) flush() {
	for m.phase == PhaseAttached && !m.stalled {
		if m.sent < len(m.tail) {
			m.carry(m.tail[m.sent])
			m.sent++
			continue
		}
		if len(m.queue) == 0 {
			return
		}
		e := m.queue[0]
		if !e.expires.IsZero() && !time.Now().Before(e.expires) {
			m.drop(0, cause.DropExpired)
			continue
		}
		var tailBytes int64
		for _, x := range m.tail {
			tailBytes += x.size()
		}
		if m.numbered && len(m.tail) > 0 &&
			(len(m.tail) >= m.window.Messages || tailBytes+e.size() > m.window.Bytes) {
			if m.full.IsZero() {
				m.full = time.Now()
			}
			if m.ends.IsZero() {
				m.ends = m.stuck()
			}
			return
		}
		m.queue = m.queue[1:]
		m.sequence++
		e.sequence = m.sequence
		m.carry(e)
		if m.numbered {
			m.tail = append(m.tail, e)
			m.sent++
		}
	}
}

// stuck is when a client that has a link now has confirmed nothing for too long.
func (m *model) stuck() time.Time {
	late := m.full.Add(DefaultConfig().AckTimeout)
	last := late.Add(DefaultConfig().ResumeWindow + 5*time.Second) // in every case
	switch back := time.Now().Add(5 * time.Second); {
	case back.Before(late):
		return late
	case back.Before(last):
		return back
	default:
		return last
	}
}

func (m *model) carry(e *modelMessage) {
	e.fate = "written"
	if m.numbered {
		m.got = append(m.got, fmt.Sprintf("%d gg:%s", e.sequence, e.text))
	} else {
		m.got = append(m.got, "gg:"+e.text)
	}
}

func (m *model) ack(sequence int) {
	if len(m.tail) == 0 || sequence < m.tail[0].sequence {
		return
	}
	for len(m.tail) > 0 && m.tail[0].sequence <= sequence {
		m.tail[0].fate = "acked"
		m.tail = m.tail[1:]
		m.sent = max(0, m.sent-1)
	}
	m.full = time.Time{}
	if m.phase == PhaseAttached {
		m.ends = time.Time{}
	}
	m.flush()
}

// lose ends the link, resume begins a new link.
func (m *model) lose() {
	m.phase, m.ends = PhaseDetached, time.Now().Add(DefaultConfig().ResumeWindow)
}

func (m *model) resume(stalled bool) {
	m.phase, m.stalled, m.sent, m.got, m.ends = PhaseAttached, stalled, 0, nil, time.Time{}
	if !m.full.IsZero() {
		m.ends = m.stuck()
	}
	m.flush()
}

// pass is time that has gone by.
func (m *model) pass() {
	if m.phase != PhaseClosed && !m.ends.IsZero() && !time.Now().Before(m.ends) {
		m.close()
	}
}

// receipts counts the messages by their fate.
func (m *model) receipts() map[string]int {
	fates := map[string]int{}
	for _, e := range m.all {
		fate := e.fate
		if fate == "" {
			fate = "queued"
			if m.phase == PhaseDetached {
				fate = "queued_detached"
			}
		}
		fates[fate]++
	}
	return fates
}

func receipts(t testing.TB, all []*Delivery) map[string]int {
	fates := map[string]int{}
	add := func(fate string, n int) {
		if n > 0 {
			fates[fate] += n
		}
	}
	for _, d := range all {
		r := d.Receipt()
		sum(t, r)
		add("queued", r.Queued)
		add("queued_detached", r.QueuedDetached)
		add("written", r.Written)
		add("acked", r.Acked)
		add("in_transfer", r.InTransfer)
		for _, x := range r.Dropped {
			add(x.Reason.String(), x.Count)
		}
	}
	return fates
}

// TestAConnectionDoesWhatTheModelDoes drives a connection and the model through the same random
// life: sends under every policy, with ttl and keys, stalls, time, and for the numbered protocol
// acks (forged acks too), lost links, resumes, takeovers, greetings that never arrive, and the end
// of patience.
func TestAConnectionDoesWhatTheModelDoes(t *testing.T) {
	for _, protocol := range []Protocol{routed{}, numbered{}} {
		t.Run(protocol.Name(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				bubble(t, rt, func(t *testing.T) { live(t, rt, protocol) })
			})
		})
	}
}

// broken is the value with which a check in a bubble panics.
type broken string

// bubble runs f in a synctest bubble inside a rapid check. rapid ends a run by a panic, which has
// to leave the bubble, and tells failures apart by where they come from: a failure that was found
// is raised here, anything else (rapid asking for a shorter run) goes on as it is.
func bubble(t *testing.T, rt *rapid.T, f func(*testing.T)) {
	var end any
	synctest.Test(t, func(t *testing.T) {
		defer func() { end = recover() }()
		f(t)
	})
	if found, ok := end.(broken); ok {
		rt.Fatal(string(found))
	}
	if end != nil {
		panic(end)
	}
}

func breakIf(wrong bool, format string, args ...any) {
	if wrong {
		panic(broken(fmt.Sprintf(format, args...)))
	}
}

func live(t *testing.T, rt *rapid.T, protocol Protocol) {
	_, isNumbered := protocol.(Numbered)
	bounds := Bounds{
		Messages: rapid.IntRange(1, 6).Draw(rt, "messages"),
		Bytes:    rapid.Int64Range(40, 200).Draw(rt, "bytes"),
	}
	window := Bounds{
		Messages: rapid.IntRange(1, 4).Draw(rt, "window"),
		Bytes:    rapid.Int64Range(20, 200).Draw(rt, "window bytes"),
	}
	h := newHub(t)
	// below the least that Validate allows: small is where it gets tight
	h.config.Outbox, h.config.Window = bounds, window
	c := connectAs(t, h, protocol, "ann", "g")
	asks := rapid.Bool().Draw(rt, "asks")
	c.link.asks = asks
	m := &model{bounds: bounds, window: window, numbered: isNumbered, phase: PhaseAttached}
	var sent []*Delivery
	shown := "" // the token with which the client came last
	resume := func(greeted, stalled bool) {
		if (greeted || shown == "") && c.link.heard() {
			shown = c.link.token(t)
		}
		c.resumeOn(t, shown, &memory{connection: c.Connection, asks: asks, stalled: stalled})
		m.resume(stalled)
	}
	actions := map[string]func(*rapid.T){
		"send": func(rt *rapid.T) {
			if m.phase == PhaseClosed {
				return
			}
			policy := rapid.SampledFrom([]overflow.Policy{
				overflow.CloseSlow, overflow.DropOldest, overflow.DropNewest, overflow.Conflate,
			}).Draw(rt, "policy")
			key, expires := "", time.Time{}
			if policy == overflow.Conflate {
				key = rapid.SampledFrom([]string{"x", "y"}).Draw(rt, "key")
			}
			if rapid.Bool().Draw(rt, "ttl") {
				expires = time.Now().Add(time.Second)
			}
			text := fmt.Sprintf(
				"%d%s", len(sent), strings.Repeat(".", rapid.IntRange(0, 250).Draw(rt, "pad")),
			)
			s := toGroup("g", text)
			s.Policy, s.ConflationKey, s.Message.Expires = policy, key, expires
			sent = append(sent, send(t, h, s))
			m.push(text, key, policy, expires)
		},
		"stall": func(*rapid.T) {
			if m.phase == PhaseAttached {
				m.stalled = !m.stalled
				c.link.stall(m.stalled)
				m.flush()
			}
		},
		"time": func(rt *rapid.T) {
			// No multiple of another's: two things never happen at once.
			time.Sleep(rapid.SampledFrom([]time.Duration{
				607, 607, 607, 17_011, 31_013,
			}).Draw(rt, "ms") * time.Millisecond)
			synctest.Wait()
			m.pass()
		},
	}
	if isNumbered {
		actions["ack"] = func(rt *rapid.T) {
			if m.sequence == 0 || m.phase == PhaseClosed {
				return
			}
			n := rapid.IntRange(1, m.sequence).Draw(rt, "sequence")
			err := c.Ack(uint64(n))
			breakIf(err != nil, "ack %d: %v", n, err)
			m.ack(n)
		}
		actions["forge"] = func(rt *rapid.T) {
			if m.phase == PhaseClosed {
				return
			}
			n := m.sequence + rapid.IntRange(1, 3).Draw(rt, "beyond")
			breakIf(
				!errors.Is(c.Ack(uint64(n)), ErrAckForged), "ack %d of %d is taken", n, m.sequence,
			)
		}
		actions["lose"] = func(*rapid.T) {
			if m.phase == PhaseAttached {
				c.lose()
				m.lose()
			}
		}
		actions["resume"] = func(rt *rapid.T) {
			greeted, stalled := rapid.Bool().Draw(rt, "greeted"), rapid.Bool().Draw(rt, "stalled")
			if m.phase != PhaseClosed { // from attached it is a takeover
				resume(greeted, stalled)
			}
		}
	}
	actions[""] = func(*rapid.T) {
		synctest.Wait()
		// A client that comes back far too late is closed at once.
		m.pass()
		info := c.Info()
		breakIf(info.Phase != m.phase ||
			m.phase != PhaseClosed && info.QueuedMessages != len(m.queue),
			"phase %d with %d queued, model %d with %d", info.Phase, info.QueuedMessages, m.phase,
			len(m.queue))
		diff := cmp.Diff(m.receipts(), receipts(t, sent))
		breakIf(diff != "", "fates: %s", diff)
		got := c.link.frames()
		switch {
		case !c.link.heard():
			got = nil
		case isNumbered:
			got = c.link.numberedFrames(t)
		}
		diff = cmp.Diff(m.got, got, equateEmpty)
		breakIf(diff != "", "on the wire: %s", diff)
		err := h.CheckAtRest()
		breakIf(err != nil, "%v", err)
	}
	rt.Repeat(actions)
	c.Close(cause.Backend.CloseStatus())
	for _, d := range sent {
		if r := d.Receipt(); r.Queued+r.QueuedDetached != 0 {
			t.Errorf("queued at a closed connection: %+v", r)
		}
	}
}
