package port

import (
	"cmp"
	"container/list"
	"time"

	"github.com/connhub/connhub/auth"
)

// idlePatience is how long a connection must be without a call before it counts as idle. A call
// counts from the moment that a goroutine carries it out, not from its headers.
const idlePatience = time.Second

// shareEnd says how a connection ended because of its credential's share.
type shareEnd string

const (
	shareClosed  shareEnd = "closed"  // a known connection
	shareRefused shareEnd = "refused" // a new connection
)

var shareEnds = []shareEnd{shareClosed, shareRefused}

// holder is a credential, and the connections that have shown it first. Guarded by gate.mu.
type holder struct {
	identity auth.Identity
	conns    list.List // of *inbound, the oldest first
	ends     reasonLog[shareEnd]
}

// holders are the connections that have shown a credential, by credential: as many as there are
// secrets. Guarded by gate.mu.
//
// Problem: a backend that opens connections and keeps them must keep out neither its neighbours nor
// peers. The number of backends is unknown, and a single backend shall have many connections.
//
// Rule: when a new connection is too many, the backends' credential with most connections gives up
// a connection. Among equals it is the credential of the new connection. So a credential is kept
// out only if none holds more than it would with the new connection. A peer is never kept out.
type holders struct {
	most  int // bound of known; 0: none
	known int // connections of all credentials
	of    map[auth.Identity]*holder
}

func newHolders(most int) holders {
	return holders{most: most, of: make(map[auth.Identity]*holder)}
}

// countConns returns the number of connections that have shown a credential of a role.
func (h *holders) countConns(role auth.Role) int {
	n := 0
	for who, of := range h.of {
		if who.Role == role {
			n += of.conns.Len()
		}
	}
	return n
}

// addConn lists a connection of a credential. If a connection must go for it, addConn returns that
// connection as payer. ok is false if c itself is too many: then c is not listed.
func (h *holders) addConn(c *inbound, who auth.Identity) (payer *inbound, ok bool) {
	mine := h.of[who]
	if mine == nil {
		mine = &holder{identity: who}
		h.of[who] = mine
	}
	c.holder, c.place.ofHolder = mine, mine.conns.PushBack(c)
	h.known++
	c.lastCall.Store(time.Now().UnixNano())
	if h.most == 0 || h.known <= h.most {
		return nil, true
	}
	most := h.largestHolder(mine)
	if most == nil { // all are of peers
		return nil, true
	}
	payer = most.choosePayer()
	if payer == c {
		h.removeConn(c)
		return nil, false
	}
	return payer, true
}

// largestHolder returns the backends' credential with most connections; among equals, mine. It
// returns nil if no backend has a connection.
func (h *holders) largestHolder(mine *holder) *holder {
	var most *holder
	for who, of := range h.of {
		held := of.conns.Len()
		switch {
		case who.Role == auth.RolePeer || held == 0:
		case most == nil, held > most.conns.Len(), held == most.conns.Len() && of == mine:
			most = of
		}
	}
	return most
}

// choosePayer returns the connection to close: the connection that has been idle longest, or else
// the newest.
func (h *holder) choosePayer() *inbound {
	newest := h.conns.Back().Value.(*inbound)
	var idle *inbound
	earliest := time.Now().Add(-idlePatience).UnixNano()
	for e := h.conns.Front(); e != nil; e = e.Next() {
		c := e.Value.(*inbound)
		if last := c.lastCall.Load(); c.calls.Load() == 0 && last <= earliest {
			idle, earliest = c, last-1 // only a longer idle connection replaces it
		}
	}
	return cmp.Or(idle, newest)
}

// removeConn takes a connection from the list of its credential, if it is there.
func (h *holders) removeConn(c *inbound) {
	if c.holder == nil {
		return
	}
	c.holder.conns.Remove(c.place.ofHolder)
	c.holder, c.place.ofHolder = nil, nil
	h.known--
}
