package control

import (
	"container/list"
	"time"

	"github.com/connhub/connhub/auth"
)

// idlePatience is how long a connection must be without a call before it counts as idle. A call
// whose headers have come, and that no goroutine carries out yet, is not counted as one.
const idlePatience = time.Second

// shareEnd is what became of a connection because of its credential's share.
type shareEnd string

const (
	shareClosed  shareEnd = "closed"  // it was known
	shareRefused shareEnd = "refused" // it was new
)

var shareEnds = []shareEnd{shareClosed, shareRefused}

// holder is a credential, and the connections that have shown it first. Guarded by port.mu.
type holder struct {
	identity auth.Identity
	conns    list.List // of *inbound, the oldest first
	ends     reasonLog[shareEnd]
}

// holders are the connections that have shown a credential, by credential: as many as there are
// secrets. Guarded by port.mu.
//
// Problem: a backend that opens connections and keeps them must not keep out others, nor other
// hubs; nobody knows how many backends there will be, and one alone shall have many connections.
//
// Rule: when there are too many, the newest counted, the backends' credential that holds most gives
// one up; among equals it is the newest's own. So a credential is kept out only if none holds more
// than it would with one more. A hub is never kept out.
type holders struct {
	most  int // connections; 0: any number
	known int // connections of all
	of    map[auth.Identity]*holder
}

func newHolders(most int) holders { return holders{most: most, of: make(map[auth.Identity]*holder)} }

// count returns how many connections have shown a credential of a role.
func (h *holders) countConns(role auth.Role) int {
	n := 0
	for who, of := range h.of {
		if who.Role == role {
			n += of.conns.Len()
		}
	}
	return n
}

// add lists a connection of a credential. If that is one too many, it returns the one to close.
// False: it is this one, and it is not listed.
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
	if most == nil { // all are of other hubs
		return nil, true
	}
	payer = most.choosePayer()
	if payer == c {
		h.removeConn(c)
		return nil, false
	}
	return payer, true
}

// largest returns the credential of a backend that holds most; among equals it is mine. nil: no
// backend has a connection.
func (h *holders) largestHolder(mine *holder) *holder {
	var most *holder
	for who, of := range h.of {
		switch {
		case who.Role == auth.RolePeer || of.conns.Len() == 0:
		case most == nil, of.conns.Len() > most.conns.Len(), of.conns.Len() == most.conns.Len() && of == mine:
			most = of
		}
	}
	return most
}

// choose returns the connection to close: the one that has been idle for longest. If none is idle,
// it is the newest.
func (h *holder) choosePayer() *inbound {
	newest := h.conns.Back().Value.(*inbound)
	var idle *inbound
	earliest := time.Now().Add(-idlePatience).UnixNano()
	for e := h.conns.Front(); e != nil; e = e.Next() {
		c := e.Value.(*inbound)
		if last := c.lastCall.Load(); c.calls.Load() == 0 && last <= earliest {
			idle, earliest = c, last-1 // the next one must have been idle for longer
		}
	}
	if idle != nil {
		return idle
	}
	return newest
}

// remove takes a connection from the list of its credential, if it is there.
func (h *holders) removeConn(c *inbound) {
	if c.holder == nil {
		return
	}
	c.holder.conns.Remove(c.place.ofHolder)
	c.holder, c.place.ofHolder = nil, nil
	h.known--
}
