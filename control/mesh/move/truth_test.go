package move

import (
	"fmt"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// client is the client of a connection.
type client struct {
	world *world
	id    hub.ConnectionID
	born  hub.ID
	at    hub.ID // the hub of its link; empty: it has none
	asks  hub.ID // the hub where it waits for its connection
	got   []string
	done  []int // its commands that succeeded

	isClosed bool // a backend, or its hub, has closed the connection
	isLost   bool // a hub that had the connection has died
	mayEnd   bool // the old hub has died, and the last message may not arrive
	refused  bool // for good
}

// sent is a send, as its caller sees it.
type sent struct {
	request

	must, mustNot bool // the client gets it; does not get it
	isOpen        bool // it has not returned
}

type sendKey struct {
	caller Origin
	number int
}

type groupKey string

// membership is the knowledge that callers have of a group: all connections join and leave it
// together.
type membership struct {
	isIn    bool
	open    int  // calls that have not returned, or whose outcome is unknown
	unclear bool // calls have overlapped
}

// issue begins a call of a backend at a hub.
func (w *world) issue(n *node, lane int, v verb, group string) {
	caller := Origin{n.id, lane}
	w.callers[caller]++
	r := request{v, caller, w.callers[caller], group}
	if v == closes {
		for _, c := range w.clients {
			c.isClosed = true // from now on it may be
		}
	}
	w.noteCall(r)
	if !w.isLinkedWithAll(n) {
		w.noteUnknown(r)
	}
	w.trace("%s calls %s", n.id, r)
	n.calls[n.core.called+1] = r
	if w.isLazy && n.core.IsIdle() {
		n.startQuick(lane, r)
		return
	}
	_, effects := n.core.StartCall(w.now, lane, w.route(n), r)
	n.perform(effects)
	w.endFenced()
}

// route returns the peers that get a call.
func (w *world) route(n *node) (peers []hub.ID) {
	for _, m := range w.nodes {
		if m == n || !w.links[pair{n.id, m.id}].isUp {
			continue
		}
		if !w.isFiltered || n.interested[m.id] {
			peers = append(peers, m.id)
		}
	}
	return peers
}

func (w *world) isLinkedWithAll(n *node) bool {
	for _, m := range w.nodes {
		if m != n && !m.isDeclared && !w.links[pair{n.id, m.id}].isUp {
			return false
		}
	}
	return true
}

func (w *world) group(name string) *membership {
	g := w.groups[groupKey(name)]
	if g == nil {
		g = &membership{}
		w.groups[groupKey(name)] = g
	}
	return g
}

// noteCall notes the promises to the caller of a call.
func (w *world) noteCall(r request) {
	switch r.verb {
	case send:
		s := &sent{request: r, isOpen: true, must: true}
		if r.group != "" {
			g := w.group(r.group)
			isClear := g.open == 0 && !g.unclear
			s.must, s.mustNot = isClear && g.isIn, isClear && !g.isIn
		}
		w.sends[sendKey{r.caller, r.number}] = s
	case join, leave:
		g := w.group(r.group)
		g.unclear = g.open > 0
		g.open++
		for _, s := range w.sends {
			if s.isOpen && s.group == r.group {
				s.must, s.mustNot = false, false
			}
		}
	default:
	}
}

// noteUnknown notes that a call may have an outcome that its caller is not told.
func (w *world) noteUnknown(r request) {
	switch r.verb {
	case send:
		s := w.sends[sendKey{r.caller, r.number}]
		s.must, s.mustNot = false, false
	case join, leave:
		w.group(r.group).open++ // for ever
	case grant:
		w.unsure = append(w.unsure, r.message())
	default:
	}
}

// finish notes that a call has returned.
func (w *world) finish(n *node, r request, unknown []hub.ID) {
	w.trace("%s returns %s%s", n.id, r.name(), words(" without", unknown))
	if len(unknown) > 0 {
		w.noteUnknown(r)
	}
	switch r.verb {
	case send:
		w.sends[sendKey{r.caller, r.number}].isOpen = false
	case grant:
		if !slices.Contains(w.unsure, r.message()) {
			w.grants = append(w.grants, r.message())
		}
	case join, leave:
		g := w.group(r.group)
		if g.open--; g.open == 0 && !g.unclear {
			g.isIn = r.verb == join
		}
	default:
	}
}

// checkPush checks a message on its way to an outbox.
func (w *world) checkPush(n *node, id hub.ConnectionID, c *conn, r request) {
	if c.has(r) {
		w.fail("%s: %s gets %s twice", n.id, id, r.message())
	}
	if c.last[r.caller] > r.number {
		w.fail("%s: %s gets %s after %d", n.id, id, r.message(), c.last[r.caller])
	}
}

// checkTruth compares a connection with its client's notes.
func (w *world) checkTruth(n *node, id hub.ConnectionID) {
	c, t := n.conns[id], w.clients[id]
	if !slices.Equal(c.done, t.done) || c.events != len(t.done) {
		w.fail("%s: %s has done %v with %d events, not %v", n.id, id, c.done, c.events, t.done)
	}
	if len(t.got) > c.acked+c.numbered {
		w.fail("%s: %s has numbered %d messages, and its client has %d", n.id, id,
			c.acked+c.numbered, len(t.got))
	}
}

// checkOwners checks in each step that a connection has a single owner at most.
func (w *world) checkOwners() {
	for id, t := range w.clients {
		owners := []hub.ID{}
		for _, n := range w.nodes {
			if c := n.conns[id]; c != nil && c.phase != inDoubt {
				owners = append(owners, n.id)
			}
		}
		if len(owners) > 1 || len(owners) == 1 && t.isLost {
			w.fail("%s is owned by %v, lost: %t", id, owners, t.isLost)
		}
	}
}

// noteStop notes which connections a hub takes with it: its own, and those in doubt that it sends
// or gets.
func (w *world) noteStop(n *node) {
	for id, t := range w.clients {
		own := n.conns[id]
		if own != nil && own.phase != inDoubt {
			t.isLost = true
			continue
		}
		for _, m := range w.nodes {
			c := m.conns[id]
			if c == nil || c.phase != inDoubt || m != n && m.stones[id] != n.id ||
				w.owner(id) != nil {
				continue
			}
			// Only a message that is on its way can still make an owner.
			hope := Last
			if m != n {
				hope = Never
			}
			t.isLost, t.mayEnd = !w.isOnItsWay(hope, id), true
		}
	}
}

// noteRelease checks that a hub lets go of a connection that its new hub has, or that was in doubt
// for long enough. From then on no hub but the new hub can own the connection.
func (w *world) noteRelease(e Release, c *conn) {
	t, isOwned := w.clients[e.Move.Connection], w.owner(e.Move.Connection) != nil
	switch {
	case e.IsInDoubt && w.now < c.sealedAt+doubtTime:
		w.fail("%s lets go of %s after %v", e.Move.From, t.id, w.now-c.sealedAt)
	case !e.IsInDoubt || isOwned || t.isClosed:
	default:
		t.isLost, t.mayEnd = !w.isOnItsWay(Last, t.id), true
	}
}

func (w *world) owner(id hub.ConnectionID) *node {
	for _, n := range w.nodes {
		if c := n.conns[id]; c != nil && c.phase != inDoubt {
			return n
		}
	}
	return nil
}

// isOnItsWay reports whether a message about a connection is on its way.
func (w *world) isOnItsWay(k Kind, id hub.ConnectionID) bool {
	for _, l := range w.links {
		for _, m := range slices.Concat(l.requests[0], l.responses[0]) {
			if m.Kind == k && m.Move.Connection == id {
				return true
			}
		}
	}
	return false
}

// heal lets all that can happen happen, until nothing is left: each move ends.
func (w *world) heal() {
	const most = 10_000
	for range most {
		if waiting := w.waiting(); len(waiting) > 0 {
			w.deliver(waiting[0])
			w.checkOwners()
			continue
		}
		if !w.mendLinks() {
			next := w.nextDeadline()
			if next == never {
				w.checkHealed()
				return
			}
			w.tick(next)
		}
		w.checkOwners()
	}
	w.fail("the hubs never rest")
}

// mendLinks makes a step towards links between all live hubs, and towards the end of commands. It
// reports whether there was any.
func (w *world) mendLinks() bool {
	dialled, accepted := w.halfOver()
	for _, p := range dialled {
		w.cutDialled(p)
		return true
	}
	for _, p := range accepted {
		w.endAccepted(p)
		return true
	}
	for _, n := range w.nodes {
		if len(n.freezing) > 0 {
			n.finishFreezes()
			return true
		}
		if w.canDeclare(n) {
			w.declare(n)
			return true
		}
	}
	for _, p := range w.pairs() {
		if w.canDial(p) {
			w.dial(p)
			return true
		}
	}
	return false
}

func (w *world) nextDeadline() (at time.Duration) {
	at = never
	for _, n := range w.nodes {
		if !n.dead {
			at = min(at, n.core.NextDeadline())
		}
	}
	return at
}

// tick lets time pass, and each hub looks at it.
func (w *world) tick(to time.Duration) {
	w.now = max(w.now, to)
	w.trace("%v passes", w.now)
	for _, n := range w.nodes {
		if !n.dead {
			n.perform(n.core.HandleTick(w.now))
		}
	}
	w.endFenced()
}

// checkHealed checks the end: no hub knows a move any more, and all promises are kept.
func (w *world) checkHealed() {
	for _, n := range w.nodes {
		k := n.core
		if !n.dead && len(k.departures)+len(k.arrivals)+len(k.marks)+len(k.calls)+len(k.answers)+
			len(k.takes)+len(k.wanted)+len(n.shadows)+k.holdings.bytes > 0 {
			w.fail("%s remembers: %d departures, %d arrivals, %d marks, %d calls, %d answers, "+
				"%d takes, %d wanted, %d shadows, %d bytes", n.id, len(k.departures),
				len(k.arrivals), len(k.marks), len(k.calls), len(k.answers), len(k.takes),
				len(k.wanted), len(n.shadows), k.holdings.bytes)
		}
	}
	for _, id := range sortedKeys(w.clients) {
		w.checkEnd(w.clients[id])
	}
}

func (w *world) checkEnd(t *client) {
	n := w.owner(t.id)
	if n == nil {
		if !t.isClosed && !t.isLost && !t.mayEnd {
			w.fail("%s has no owner", t.id)
		}
		return
	}
	c := n.conns[t.id]
	w.checkTruth(n, t.id)
	for name, g := range w.groups {
		is := slices.Contains(c.groups, string(name))
		if g.open == 0 && !g.unclear && is != g.isIn {
			w.fail("%s: %s is in %s: %t", n.id, t.id, name, is)
		}
	}
	if t.isClosed {
		return
	}
	for _, g := range w.grants {
		if !slices.Contains(c.grants, g) {
			w.fail("%s: %s lacks the grant %s", n.id, t.id, g)
		}
	}
	for _, s := range w.sends {
		if has := c.has(s.request); s.must && !has || s.mustNot && has {
			w.fail("%s: %s has got %s: %t", n.id, t.id, s.message(), has)
		}
	}
}

// checkClient has the client come back to its connection, at the end. It gets all messages that no
// hub has dropped.
func (t *client) checkClient() {
	n := t.world.owner(t.id)
	if n == nil || t.refused {
		return
	}
	t.resume(n)
	t.read()
	if c := n.conns[t.id]; len(t.got) != len(c.history)-c.dropped {
		t.world.fail("%s: the client has %v of %v", t.id, t.got, c.history)
	}
}

// resume has the client ask for its connection at a hub.
func (t *client) resume(n *node) {
	w := t.world
	if n.dead || t.refused {
		return
	}
	w.trace("%s comes to %s", t.id, n.id)
	t.at, t.asks = "", n.id
	c := n.conns[t.id]
	switch {
	case c != nil && c.phase == live:
		t.bind(n)
	case c != nil:
		t.hearRefusal(n, false)
	default:
		at := t.findHolder(n)
		if at == n.id || at == "" {
			t.hearRefusal(n, n.shadows[t.id] == nil)
			return
		}
		n.addQuick()
		n.perform(n.core.StartTake(w.now, t.id, at, proofOf(t.id)))
	}
}

// findHolder returns the hub to ask: that of the tombstone, where the connection was born, or the
// hub whose interest names it if that hub is dead.
func (t *client) findHolder(n *node) hub.ID {
	if at, ok := n.stones[t.id]; ok && !t.world.node(at).isDeclared {
		return at
	}
	if born := t.world.node(t.born); born != n && !born.isDeclared {
		return t.born
	}
	for _, m := range t.world.nodes {
		if m != n && (m.conns[t.id] != nil || m.shadows[t.id] != nil) {
			return m.id
		}
	}
	return ""
}

// bind gives the client a link at the hub that has its connection now.
func (t *client) bind(n *node) {
	if t.asks != n.id {
		return
	}
	t.asks = ""
	if c := n.conns[t.id]; c != nil && c.phase == live {
		t.at, c.attached = n.id, true
		t.read()
	}
}

func (t *client) hearRefusal(n *node, isFinal bool) {
	if t.asks != n.id {
		return
	}
	t.world.trace("%s refuses %s, final: %t", n.id, t.id, isFinal)
	t.asks = ""
	if isFinal {
		t.refused = true
		if !t.isClosed && !t.isLost && !t.mayEnd {
			t.world.fail("%s refuses %s for good", n.id, t.id)
		}
	}
}

// loseLink ends the client's link at a hub.
func (t *client) loseLink(n *node) {
	if t.at == n.id {
		t.at = ""
	}
}

// own returns the client's connection if the client can use it now.
func (t *client) own() *conn {
	if t.at == "" {
		return nil
	}
	c := t.world.node(t.at).conns[t.id]
	if c == nil || c.phase != live || !c.attached {
		return nil
	}
	return c
}

// read takes the messages that the link carries. A client knows by the sequence id which it has.
func (t *client) read() {
	c := t.own()
	if c == nil {
		return
	}
	c.numbered = len(c.outbox)
	for i, m := range c.outbox {
		switch place := c.acked + i; {
		case place == len(t.got):
			t.got = append(t.got, m)
		case place > len(t.got):
			t.world.fail("%s: sequence id %d after %d", t.id, place+1, len(t.got))
		case t.got[place] != m:
			t.world.fail("%s: %s has the sequence id of %s", t.id, m, t.got[place])
		}
	}
}

// ack confirms the messages that the client has.
func (t *client) ack() {
	if c := t.own(); c != nil {
		n := len(t.got) - c.acked
		c.outbox, c.acked, c.numbered = slices.Clone(c.outbox[n:]), len(t.got), c.numbered-n
	}
}

// command is a command of the client that succeeds.
func (t *client) command() {
	if c := t.own(); c != nil {
		t.done = append(t.done, len(t.done)+1)
		c.done = append(c.done, len(t.done))
		c.events++
	}
}

func words(before string, ids []hub.ID) string {
	text := ""
	for _, id := range ids {
		text += fmt.Sprintf("%s %s", before, id)
	}
	return text
}

// describe returns a message in words.
func describe(m Message) string {
	text := m.Kind.String()
	switch m.Kind {
	case Call, Result, Resend:
		text += fmt.Sprintf(" %d", m.Number)
	case Last:
		text += fmt.Sprintf(", marked %v", m.Marked)
	case Elsewhere:
		text += " " + string(m.Hub)
	default:
	}
	if m.Kind.IsOfLane() && m.Lane > 0 {
		text += fmt.Sprintf(" lane %d", m.Lane)
	}
	for _, x := range []struct {
		is   bool
		word string
	}{
		{m.Complete, "complete"},
		{m.IsFinal, "final"},
		{m.Kind == Released && m.Body != nil, "ended"},
	} {
		if x.is {
			text += " " + x.word
		}
	}
	if r, ok := m.Body.(request); ok {
		text += " " + r.name()
	}
	if list, ok := m.Body.([]request); ok {
		for _, r := range list {
			text += " [" + r.name() + "]"
		}
	}
	for _, moved := range m.Moved {
		text += " moved " + moved.ID.String()
	}
	return text
}
