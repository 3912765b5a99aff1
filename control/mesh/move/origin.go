package move

import (
	"maps"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// call is a call that began at this hub and has not finished.
type call struct {
	lane int
	body any // nil: it is in the answer of the hub that has not taken the call
	// links are the numbers of the links of this hub when the call began; 0: this hub itself.
	links map[hub.ID]uint64
	// pending are the hubs that have not answered, with the number of answers that must come: the
	// call may have been resent before the first answer.
	pending map[hub.ID]int
	// moved are the moves whose old hubs have not taken the call. It must be known first whether
	// the new hub has.
	moved   []Move
	unknown map[hub.ID]struct{} // hubs whose link has ended before they answered
}

// mark is a move that this hub knows as an origin. Its lanes are marked.
type mark struct {
	move Move
	// calls is how many calls had begun here before the marks.
	calls uint64
	// isAsked says that the new hub waits for Settled, and isSettled that it was sent.
	isAsked, isSettled bool
}

// origin is the part of a hub as the origin of calls.
type origin struct {
	*links

	called uint64 // calls that began here
	calls  map[uint64]*call
	marks  map[ID]*mark
}

// StartCall begins a call on a lane: to peers, which have links, and to this hub itself. It returns
// the number of the call. Each peer that may have matching connections, by its interest, is among
// the peers. The shell must have sent the effects of the calls before.
func (c *Core) StartCall(
	now time.Duration, lane int, peers []hub.ID, body any,
) (uint64, []Effect) {
	c.startCall(now)
	number := c.sendCall(lane, append([]hub.ID{c.self}, peers...), body)
	return number, c.takeEffects()
}

// SkipCalls notes that calls have begun without the core, because the core was idle: those up to a
// number. If the core is not idle any more, AddCall must name the calls among them that wait for an
// answer of a peer, before the next input.
func (o *origin) SkipCalls(upTo uint64) { o.called = max(o.called, upTo) }

// Called returns the number of the latest call of this hub.
func (o *origin) Called() uint64 { return o.called }

// AddCall adds a call of SkipCalls, which waits for the answer of a peer. It began when Dials was
// dials. It is called again for each further peer. The call's body comes with the answer that needs
// it.
func (o *origin) AddCall(number uint64, lane int, dials uint64, peer hub.ID) {
	n := o.calls[number]
	if n == nil {
		n = &call{
			lane: lane, links: maps.Clone(o.out), pending: map[hub.ID]int{},
			unknown: map[hub.ID]struct{}{},
		}
		maps.DeleteFunc(n.links, func(_ hub.ID, link uint64) bool { return link > dials })
		n.links[o.self] = 0
		o.calls[number] = n
	}
	n.pending[peer] = 1
}

// LoseCall notes that the shell could not put a call in line for a peer. Its part is unknown.
func (c *Core) LoseCall(now time.Duration, number uint64, peer hub.ID) []Effect {
	c.startCall(now)
	if n := c.calls[number]; n != nil {
		delete(n.pending, peer)
		n.moved = slices.DeleteFunc(n.moved, func(m Move) bool { return m.To == peer })
		n.unknown[peer] = struct{}{}
		c.finishCall(number)
		c.settleMarks()
	}
	return c.takeEffects()
}

// sendCall sends a call, and returns its number.
func (o *origin) sendCall(lane int, to []hub.ID, body any) uint64 {
	o.called++
	number := o.called
	n := &call{
		lane: lane, body: body, links: maps.Clone(o.out), pending: map[hub.ID]int{},
		unknown: map[hub.ID]struct{}{},
	}
	n.links[o.self] = 0
	o.calls[number] = n
	for _, peer := range o.addMovers(to) {
		n.pending[peer] = 1
		o.request(peer, Message{Kind: Call, Lane: lane, Number: number, Body: body})
	}
	return number
}

// addMovers adds the old and the new hub of each move with a mark to the hubs that get a call. The
// news of a move may come before the new hub's interest.
func (o *origin) addMovers(to []hub.ID) []hub.ID {
	for _, id := range sortedIDs(o.marks) {
		for _, peer := range []hub.ID{id.From, o.marks[id].move.To} {
			if _, linked := o.out[peer]; linked && !slices.Contains(to, peer) {
				to = append(to, peer)
			}
		}
	}
	return to
}

// markMove puts a mark at one point of each lane, to the old hub and to the new hub.
func (o *origin) markMove(m Move) {
	if o.marks[m.ID] != nil {
		return
	}
	o.marks[m.ID] = &mark{move: m, calls: o.called}
	for _, to := range []hub.ID{m.From, m.To} {
		o.requestOnLanes(to, Message{Kind: Mark, Move: m})
	}
}

// repeatMarks puts the marks at the beginning of a new link: those of the link before may be lost.
func (k *mark) repeatMarks(o *origin, peer hub.ID) {
	if peer == k.move.From || peer == k.move.To {
		o.requestOnLanes(peer, Message{Kind: Mark, Move: k.move})
	}
}

// forgetMark forgets a move: the new hub needs no more marks, and has taken each call on this link
// that the old hub has not taken; or it never takes the connection.
func (o *origin) forgetMark(id ID) {
	delete(o.marks, id)
	var freed []uint64 // few calls wait for a move, of the many that are open
	for number, n := range o.calls {
		before := len(n.moved)
		n.moved = slices.DeleteFunc(n.moved, func(m Move) bool { return m.ID == id })
		if len(n.moved) < before {
			freed = append(freed, number)
		}
	}
	slices.Sort(freed)
	for _, number := range freed {
		o.finishCall(number)
	}
}

// takeResult takes a hub's answer to a call.
func (o *origin) takeResult(from hub.ID, result *Message) {
	n := o.calls[result.Number]
	if n == nil {
		return
	}
	if n.body == nil {
		n.body = result.Body
	}
	if _, waits := n.pending[from]; !waits {
		return
	}
	if n.pending[from]--; n.pending[from] == 0 {
		delete(n.pending, from)
	}
	for _, m := range result.Moved {
		if !o.isOnSameLink(n, m.To) {
			n.unknown[m.To] = struct{}{} // the link that it took had no mark
			continue
		}
		n.moved = append(n.moved, m)
		o.markMove(m) // the news is as good as an announcement
	}
	o.finishCall(result.Number)
	o.settleMarks()
}

// isOnSameLink reports whether the link to a peer has not changed since a call began.
func (o *origin) isOnSameLink(n *call, peer hub.ID) bool {
	link, sent := n.links[peer]
	return sent && (peer == o.self || o.out[peer] == link)
}

// finishCall lets a call return that nothing waits for.
func (o *origin) finishCall(number uint64) {
	if n := o.calls[number]; n != nil && len(n.pending)+len(n.moved) == 0 {
		delete(o.calls, number)
		o.addEffect(Finish{number, sortedKeys(n.unknown)})
	}
}

// askSettled notes that the new hub waits for the calls from before the marks.
func (o *origin) askSettled(id ID) {
	if k := o.marks[id]; k != nil {
		k.isAsked = true
		o.settleMarks()
	}
}

// settleMarks resends the calls from before a mark that the old hub has not taken, in their order,
// once all are answered. Then the new hub goes on with the calls behind the mark.
func (o *origin) settleMarks() {
	for _, id := range sortedIDs(o.marks) {
		k := o.marks[id]
		if k == nil || !k.isAsked || k.isSettled || o.hasCallsAt(k.move.From, k.calls) {
			continue
		}
		k.isSettled = true
		for _, number := range sortedKeys(o.calls) {
			k.resendCall(o, number)
		}
		o.requestOnLanes(k.move.To, Message{Kind: Settled, Move: k.move})
	}
}

// hasCallsAt reports whether a call with a number up to most has no answer of a hub.
func (o *origin) hasCallsAt(peer hub.ID, most uint64) bool {
	for number, n := range o.calls {
		if _, waits := n.pending[peer]; waits && number <= most {
			return true
		}
	}
	return false
}

// resendCall resends a call to the new hub of a move, if it is from before the mark, and the old
// hub has not taken it.
func (k *mark) resendCall(o *origin, number uint64) {
	n := o.calls[number]
	if n == nil || number > k.calls {
		return
	}
	before := len(n.moved)
	n.moved = slices.DeleteFunc(n.moved, func(m Move) bool { return m.ID == k.move.ID })
	if len(n.moved) == before {
		return
	}
	n.pending[k.move.To]++
	o.request(k.move.To, Message{
		Kind: Resend, Move: k.move, Lane: n.lane, Number: number, Body: n.body,
	})
}

// loseCalls notes that the link to a peer has ended: its part of calls is unknown.
func (o *origin) loseCalls(peer hub.ID) {
	for _, number := range sortedKeys(o.calls) {
		n := o.calls[number]
		_, waits := n.pending[peer]
		before := len(n.moved)
		n.moved = slices.DeleteFunc(n.moved, func(m Move) bool { return m.To == peer })
		if waits || len(n.moved) < before {
			delete(n.pending, peer)
			n.unknown[peer] = struct{}{}
			o.finishCall(number)
		}
	}
	for _, k := range o.marks {
		if k.move.To == peer {
			k.isAsked, k.isSettled = false, false
		}
	}
	o.settleMarks()
}
