package move

import (
	"slices"

	"github.com/connhub/connhub/hub"
)

// quickCall is a call that a hub has begun without its core, because the core was idle.
type quickCall struct {
	lane    int
	dials   uint64
	request request
	pending []hub.ID // peers that have not answered
	unknown []hub.ID // peers whose link has ended
}

// startQuick begins a call without the core: it is sent to peers, and carried out here.
func (n *node) startQuick(lane int, r request) {
	w := n.world
	number := n.core.Called() + 1
	n.core.SkipCalls(number)
	q := &quickCall{lane: lane, dials: n.core.Dials(), request: r, pending: w.route(n)}
	n.quick[number] = q
	for _, peer := range q.pending {
		w.put(pair{n.id, peer}, true, Message{Kind: Call, Lane: lane, Number: number, Body: r})
	}
	for _, c := range sortedKeys(n.conns) {
		n.execute(c, r)
	}
	n.finishQuick(number)
}

// answerQuick takes an answer to a quick call. It reports whether the call is one.
func (n *node) answerQuick(number uint64, peer hub.ID) bool {
	q := n.quick[number]
	if q == nil {
		return false
	}
	q.pending = slices.DeleteFunc(q.pending, func(p hub.ID) bool { return p == peer })
	n.finishQuick(number)
	return true
}

// loseQuick notes that the link to a peer has ended.
func (n *node) loseQuick(peer hub.ID) {
	for _, number := range sortedKeys(n.quick) {
		if q := n.quick[number]; slices.Contains(q.pending, peer) {
			q.unknown = append(q.unknown, peer)
			n.answerQuick(number, peer)
		}
	}
}

func (n *node) finishQuick(number uint64) {
	if q := n.quick[number]; len(q.pending) == 0 {
		delete(n.quick, number)
		delete(n.calls, number)
		n.world.finish(n, q.request, q.unknown)
	}
}

// addQuick tells the core of the quick calls. It must precede each input by which a move may begin.
func (n *node) addQuick() {
	for _, number := range sortedKeys(n.quick) {
		q := n.quick[number]
		for _, peer := range q.pending {
			n.core.AddCall(number, q.lane, q.dials, peer)
		}
		if len(q.unknown) > 0 {
			n.world.noteUnknown(q.request)
		}
	}
	clear(n.quick)
}

// proofOf is what the client of a connection shows.
func proofOf(c hub.ConnectionID) any { return "the token of " + string(c) }
