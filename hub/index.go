package hub

// index finds connections by a name that they share: a user, a group.
//
// A set keeps its members in a slice, so that a fan-out copies them out under the bucket's lock in
// one go and works on the copy. Joins and leaves never wait for a fan-out nor disturb it, and a
// member that stays is in the copy exactly once. Joining and leaving cost O(1): each membership
// knows its slot.
type index struct {
	sets table[*set]
}

// set is the members of a name. Guarded by the lock of its bucket.
type set struct {
	name    string
	members []*membership
	// first is the memory of members while there is a single member: most users and many groups
	// have no more.
	first [1]*membership
}

func (s *set) key() string { return s.name }

// membership is one connection in one set.
type membership struct {
	connection *Connection
	set        *set
	slot       int // in set.members; guarded by the lock of the set's bucket
}

// setKept is the capacity below which a set's slice is not shrunk.
const setKept = 64

func (x *index) addMembership(name string, c *Connection) *membership {
	b, hash := x.sets.bucketOf(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.getLocked(hash, name)
	if !ok {
		s = &set{name: name}
		s.members = s.first[:0]
		b.putLocked(hash, s)
	}
	m := &membership{c, s, len(s.members)}
	s.members = append(s.members, m)
	return m
}

func (x *index) removeMembership(m *membership) {
	s := m.set
	b, hash := x.sets.bucketOf(s.name)
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(s.members) - 1
	moved := s.members[last]
	s.members[m.slot], moved.slot = moved, m.slot
	s.members[last] = nil
	s.members = s.members[:last]
	switch {
	case last == 0:
		b.removeLocked(hash, s.name)
	case cap(s.members) > setKept && last < cap(s.members)/4:
		s.members = append(make([]*membership, 0, last*2), s.members...)
	}
}

// countMembers returns the number of connections in the set of that name.
func (x *index) countMembers(name string) int {
	b, hash := x.sets.bucketOf(name)
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s, ok := b.getLocked(hash, name); ok {
		return len(s.members)
	}
	return 0
}

// eachMember calls yield for every member of the set of that name, under the bucket's lock. It
// reports whether there is such a set.
func (x *index) eachMember(name string, yield func(*Connection)) bool {
	b, hash := x.sets.bucketOf(name)
	b.mu.RLock()
	defer b.mu.RUnlock()
	s, ok := b.getLocked(hash, name)
	if !ok {
		return false
	}
	for _, m := range s.members {
		yield(m.connection)
	}
	return true
}
