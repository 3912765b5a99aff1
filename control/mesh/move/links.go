package move

import "github.com/connhub/connhub/hub"

// links are the links of a hub with its peers and with itself, and the effects of the running call.
type links struct {
	self  hub.ID // static
	lanes int    // static

	// in are the peers whose link this hub has accepted. False: the peer never marks its lanes.
	in    map[hub.ID]bool
	out   map[hub.ID]uint64 // the peers with a link that this hub has dialled, and its number
	dials uint64            // links dialled so far

	effects []Effect
	own     []ownMessage // of this hub to itself, not processed yet
}

// ownMessage is a message of this hub to itself.
type ownMessage struct {
	isRequest bool
	message   Message
}

// Dials returns the number of links that this hub has dialled so far.
func (l *links) Dials() uint64 { return l.dials }

func (l *links) addEffect(e Effect) { l.effects = append(l.effects, e) }

// request sends a message on the link to a peer, if there is one.
func (l *links) request(to hub.ID, m Message) {
	if to == l.self {
		l.own = append(l.own, ownMessage{true, m})
	} else if _, linked := l.out[to]; linked {
		l.addEffect(Request{to, m})
	}
}

// respond sends a message on the link of a peer, if there is one.
func (l *links) respond(to hub.ID, m Message) {
	if to == l.self {
		l.own = append(l.own, ownMessage{false, m})
	} else if _, linked := l.in[to]; linked {
		l.addEffect(Response{to, m})
	}
}

// answerCall answers a call. The shell hears of the answers to calls of this hub, too.
func (l *links) answerCall(to hub.ID, result Message) {
	if to == l.self {
		l.addEffect(Response{to, result})
	}
	l.respond(to, result)
}

// requestOnLanes sends a message on each lane to a peer.
func (l *links) requestOnLanes(to hub.ID, m Message) {
	for m.Lane = range l.lanes {
		l.request(to, m)
	}
}

// respondToAll sends a message on the links of all peers, and to this hub.
func (l *links) respondToAll(m Message) {
	for _, peer := range append(sortedKeys(l.in), l.self) {
		l.respond(peer, m)
	}
}

// lanesOf returns the lanes of a hub.
func (l *links) lanesOf(peer hub.ID) []Origin {
	all := make([]Origin, l.lanes)
	for lane := range all {
		all[lane] = Origin{peer, lane}
	}
	return all
}

// origins returns the lanes that are to be marked: those of the peers with a link to this hub, and
// of this hub.
func (l *links) origins() (all []Origin) {
	for _, peer := range append(sortedKeys(l.in), l.self) {
		if l.in[peer] || peer == l.self {
			all = append(all, l.lanesOf(peer)...)
		}
	}
	return all
}
