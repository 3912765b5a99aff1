package hub

import (
	"errors"
	"fmt"

	"github.com/connhub/connhub/hub/transfer"
)

// CheckInvariants looks for contradictions between the hub's parts and returns all that it finds.
// It may run under load: each check takes the locks that make it true.
func (h *Hub) CheckInvariants() error {
	var errs []error
	if n := h.holdings.total.bytes.Load(); n < 0 {
		errs = append(errs, fmt.Errorf("%d bytes are held", n))
	}
	for _, ns := range h.listNamespaces() {
		var connections []*Connection
		ns.connections.eachValue(func(c *Connection) { connections = append(connections, c) })
		for _, c := range connections {
			errs = append(errs, c.checkInvariants())
		}
		errs = append(errs, ns.users.checkInvariants(), ns.groups.checkInvariants())
	}
	for _, c := range h.moves.listAside() {
		errs = append(errs, checkAside(c))
	}
	return errors.Join(errs...)
}

// checkAside checks a connection that matches nothing here, because it is on the move.
func checkAside(c *Connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseClosed || !c.state.isElsewhere() {
		return nil // the move ended after the caller found it
	}
	if listed, _ := c.namespace.connections.getValue(c.key()); listed != nil ||
		c.userEntry != nil || c.memberships != nil {
		return fmt.Errorf("%v matches calls while it is on the move", c)
	}
	if c.state.stage == transfer.Shadow && c.link != nil {
		return fmt.Errorf("%v has a link, and is a shadow", c)
	}
	return nil
}

// CheckAtRest is CheckInvariants for a moment when no call to the hub is under way: then the hub
// has a reference to each key of each connection, and the budgets equal the bytes that connections
// hold. It does not check the budgets while links of closed connections have yet to end: those
// connections are in no table.
func (h *Hub) CheckAtRest() error {
	errs := []error{h.CheckInvariants()}
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	found := make(map[*namespace]int64)
	known := make(map[*tally]bool)
	links, total, references := 0, int64(0), uint64(0)
	look := func(c *Connection) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.link != nil {
			links++
		}
		for _, k := range h.keysOf(&c.state.Identity, c.state.Groups) {
			references += k.checksum()
		}
		found[c.namespace] += c.ownWeightLocked()
		for _, e := range c.state.Outbox.liveEntries() {
			kept, least := e.tally.kept.Load(), messageWeight(e.Message)+int64(len(e.shared))
			if kept < least {
				fail("%v holds a message of %d bytes, counted with %d", c, least, kept)
			}
			if !known[e.tally] {
				known[e.tally] = true
				found[c.namespace] += kept
			}
		}
	}
	var all []*Connection
	h.eachConnection(func(c *Connection) { all = append(all, c) })
	all = append(all, h.moves.listAside()...)
	for _, c := range all {
		look(c)
	}
	if sum := h.interest.sum.Load(); sum != references {
		fail("the references to keys are not those of the connections: %x, not %x", sum, references)
	}
	h.mu.RLock()
	links -= h.links
	h.mu.RUnlock()
	if links != 0 {
		return errors.Join(errs...)
	}
	check := func(what string, b *held, bytes int64) {
		if b.bytes.Load() != bytes || b.leaving.Load() != 0 {
			fail("%s holds %d bytes, counted are %d, and %d that leave",
				what, bytes, b.bytes.Load(), b.leaving.Load())
		}
	}
	for ns, bytes := range found {
		check("namespace "+ns.name, &ns.held, bytes)
		total += bytes
	}
	check("the hub", &h.holdings.total, total)
	return errors.Join(errs...)
}

func (c *Connection) checkInvariants() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, o := &c.state, &c.state.Outbox
	if s.isGone() {
		return nil // it ended after the caller found it
	}
	var errs []error
	check := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%v: %s", c, what))
		}
	}
	check(s.Acked <= s.Written && s.Written <= s.Sequence,
		"written lies outside acked and numbered")
	check(s.Acked <= c.sent && c.sent <= s.Sequence, "sent lies outside acked and numbered")
	check(c.linkWritten <= c.sent, "the link wrote what it was not given")
	check(uint64(o.tail) == s.Sequence-s.Acked, "the tail is not what is numbered and not acked")
	check(o.queueLen() <= 1 ||
		o.queueLen() <= c.hub().config.Outbox.Messages && o.bytes <= c.hub().config.Outbox.Bytes,
		"the outbox is over its bounds")
	check((s.Phase == PhaseDetached) == c.hub().detached.hasConnection(c),
		"the list of the detached does not fit the phase")
	check((c.link != nil) == (s.Phase == PhaseAttached), "the link does not fit the phase")
	check((c.userEntry != nil) == (s.User != ""), "the user entry does not fit the user")
	check(c.userEntry == nil || c.namespace.users.holdsMembership(c.userEntry),
		"the user entry is not in its set")
	check((c.numbering != nil) == (c.dialect.numbered != nil),
		"what acks need does not fit the protocol")
	check(s.Epoch > 0, "no hub has held it")
	check((s.Close != nil) == (s.Phase == PhaseClosed), "the close does not fit the phase")
	check(len(s.Groups) <= MaxGroups, "it is in too many groups")
	check(len(c.memberships) == len(s.Groups), "the memberships do not fit the groups")
	for i, m := range c.memberships {
		check(m.connection == c && m.set.name == s.Groups[i], "a membership does not fit its group")
		check(c.namespace.groups.holdsMembership(m), "a membership is not in its set")
	}
	var tail, queue int64
	for i, e := range o.liveEntries() {
		if i < int(o.tail) {
			tail += e.payloadSize()
		} else {
			queue += e.payloadSize()
		}
	}
	check(tail == o.tailBytes && queue == o.bytes, "the outbox counts its bytes wrong")
	return errors.Join(errs...)
}

// holdsMembership reports whether m stands in its slot.
func (x *index) holdsMembership(m *membership) bool {
	b, hash := x.sets.bucketOf(m.set.name)
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, _ := b.getLocked(hash, m.set.name)
	return s == m.set && m.slot < len(m.set.members) && m.set.members[m.slot] == m
}

func (x *index) checkInvariants() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for i := range x.sets.buckets {
		b := &x.sets.buckets[i]
		b.mu.RLock()
		b.eachValueLocked(func(s *set) {
			if len(s.members) == 0 {
				fail("set %q is empty", s.name)
			}
			if _, hash := x.sets.bucketOf(s.name); b.entries[hash] != s && b.twins[s.name] != s {
				fail("set %q stands under another name", s.name)
			}
			for slot, m := range s.members {
				if m.slot != slot || m.set != s {
					fail("set %q: slot %d holds a member of another", s.name, slot)
				}
			}
		})
		b.mu.RUnlock()
	}
	return errors.Join(errs...)
}
