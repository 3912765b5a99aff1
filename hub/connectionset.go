package hub

import "hash/maphash"

// connectionSet is a set for one send, and again for the next: it keeps its memory. The zero
// connectionSet is empty.
//
// Emptying it takes as many steps as it has members. Emptying a map takes as many as the map ever
// had: every small send after a large send would pay for that. A new map for every large send costs
// more than the send.
type connectionSet struct {
	// slots is a hash table with linear probing, at most half full. Its length is a power of two.
	slots []*Connection
	// used are the indexes of the slots that are taken.
	used []uint32
}

// connectionSetMin is the least length of slots that are not empty.
const connectionSetMin = 16

var connectionSetSeed = maphash.MakeSeed()

// findSlot returns the slot of c, or the free slot for it.
func (s *connectionSet) findSlot(c *Connection) (slot int, found bool) {
	last := len(s.slots) - 1
	for i := int(maphash.Comparable(connectionSetSeed, c)) & last; ; i = (i + 1) & last {
		switch s.slots[i] {
		case c:
			return i, true
		case nil:
			return i, false
		}
	}
}

func (s *connectionSet) hasConnection(c *Connection) bool {
	if len(s.used) == 0 {
		return false
	}
	_, found := s.findSlot(c)
	return found
}

// addConnection reports false if c was in the set already.
func (s *connectionSet) addConnection(c *Connection) bool {
	if 2*len(s.used) >= len(s.slots) {
		s.growSlots()
	}
	i, found := s.findSlot(c)
	if !found {
		s.slots[i] = c
		s.used = append(s.used, uint32(i))
	}
	return !found
}

func (s *connectionSet) growSlots() {
	old := s.slots
	s.slots = make([]*Connection, max(connectionSetMin, 2*len(old)))
	for n, i := range s.used {
		at, _ := s.findSlot(old[i])
		s.slots[at] = old[i]
		s.used[n] = uint32(at)
	}
}

func (s *connectionSet) emptySlots() {
	for _, i := range s.used {
		s.slots[i] = nil
	}
	s.used = s.used[:0]
}
