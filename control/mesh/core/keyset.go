package core

import (
	"hash/maphash"
	"math/bits"
)

const (
	// keysetParts bounds the pause when a set grows: a part of a set of a million has 16,000 keys.
	keysetParts = 64
	// A part is filled to fullNum/fullDen, then grows by a quarter. So it is at least 7/10 full,
	// and a key costs at most 8 / 0.7 = 11.4 bytes. The budget is 16 bytes (DESIGN §6); a Go map
	// takes up to 20.
	fullNum, fullDen = 7, 8
	// partMin is the least number of slots of a part that is not empty.
	partMin = 8
)

// keysetSeed hides the positions of hashes from clients, which may choose names.
var keysetSeed = maphash.MakeSeed()

// keyset is a compact set of hashes: the interest of a peer. The zero value is empty.
type keyset struct {
	parts   [keysetParts]keysetPart
	hasZero bool // hash 0 is in the set: in a slot, 0 marks a free slot
	len     int
}

// keysetPart is a hash table with linear probing.
type keysetPart struct {
	slots []Hash
	used  int
}

// placeOf returns the part of h, and its position there as a fraction of 2^64.
func (s *keyset) placeOf(h Hash) (*keysetPart, uint64) {
	x := maphash.Comparable(keysetSeed, h)
	return &s.parts[x%keysetParts], x
}

func (s *keyset) hasHash(h Hash) bool {
	if h == 0 {
		return s.hasZero
	}
	p, x := s.placeOf(h)
	_, found := p.findSlot(h, x)
	return found
}

func (s *keyset) addHash(h Hash) {
	if h == 0 {
		if !s.hasZero {
			s.hasZero = true
			s.len++
		}
		return
	}
	p, x := s.placeOf(h)
	i, found := p.findSlot(h, x)
	if found {
		return
	}
	if (p.used+1)*fullDen > len(p.slots)*fullNum {
		p.growSlots(s)
		i, _ = p.findSlot(h, x)
	}
	p.slots[i] = h
	p.used++
	s.len++
}

func (s *keyset) removeHash(h Hash) {
	if h == 0 {
		if s.hasZero {
			s.hasZero = false
			s.len--
		}
		return
	}
	p, x := s.placeOf(h)
	if i, found := p.findSlot(h, x); found {
		p.freeSlot(s, i)
		p.used--
		s.len--
	}
}

// countBytes returns the memory of the set's slots, in bytes.
func (s *keyset) countBytes() int {
	n := 0
	for i := range s.parts {
		n += 8 * cap(s.parts[i].slots)
	}
	return n
}

// homeSlot returns the preferred slot for position x.
func (p *keysetPart) homeSlot(x uint64) int {
	hi, _ := bits.Mul64(x, uint64(len(p.slots)))
	return int(hi)
}

// findSlot returns the slot of h, or the free slot for h.
func (p *keysetPart) findSlot(h Hash, x uint64) (slot int, found bool) {
	if len(p.slots) == 0 {
		return 0, false
	}
	for i := p.homeSlot(x); ; i++ {
		if i == len(p.slots) {
			i = 0
		}
		switch p.slots[i] {
		case h:
			return i, true
		case 0:
			return i, false
		}
	}
}

func (p *keysetPart) growSlots(s *keyset) {
	old := p.slots
	p.slots = make([]Hash, max(partMin, len(old)+len(old)/4))
	for _, h := range old {
		if h != 0 {
			_, x := s.placeOf(h)
			i, _ := p.findSlot(h, x)
			p.slots[i] = h
		}
	}
}

// freeSlot empties slot i and closes the gap: a search for a hash behind the gap must not end
// there.
func (p *keysetPart) freeSlot(s *keyset, i int) {
	n := len(p.slots)
	for j := i; ; {
		j = (j + 1) % n
		h := p.slots[j]
		if h == 0 {
			break
		}
		_, x := s.placeOf(h)
		if (j-p.homeSlot(x)+n)%n >= (j-i+n)%n { // its home is not behind the gap
			p.slots[i], i = h, j
		}
	}
	p.slots[i] = 0
}
