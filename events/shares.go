package events

// reservedShare is the part of a queue that is kept for users who have little in it: an eighth. Half of that is kept for namespaces that have
// little. Without it one client that sends much would fill a slow subscriber's queue, and the messages of all others would be dropped.
const reservedShare = 8

// shares is how many bytes of messages namespaces and users have in a queue. Clients without a user share
// those of their address.
type shares struct {
	bytes      int64
	namespaces map[string]*namespaceShare
}

type namespaceShare struct {
	bytes int64
	users map[string]int64
}

// countShares returns the shares of messages among events.
func countShares(events []*event) *shares {
	s := &shares{namespaces: map[string]*namespaceShare{}}
	for _, e := range events {
		if e.isMessage() {
			s.add(e)
		}
	}
	return s
}

func (s *shares) add(e *event) {
	ns := s.namespaces[e.who.Namespace]
	if ns == nil {
		ns = &namespaceShare{users: map[string]int64{}}
		s.namespaces[e.who.Namespace] = ns
	}
	w := e.weight()
	s.bytes += w
	ns.bytes += w
	ns.users[e.who.Payer()] += w
}

func (s *shares) remove(e *event) {
	ns, user, w := s.namespaces[e.who.Namespace], e.who.Payer(), e.weight()
	s.bytes -= w
	ns.bytes -= w
	if ns.users[user] -= w; ns.users[user] == 0 {
		delete(ns.users, user)
	}
	if len(ns.users) == 0 {
		delete(s.namespaces, e.who.Namespace)
	}
}

// userExceeds reports whether the sender of e has its share already: what the users of its namespace would have if there were one more,
// and all had as much.
func (s *shares) userExceeds(e *event) bool {
	ns := s.namespaces[e.who.Namespace]
	return ns != nil && ns.users[e.who.Payer()]*int64(len(ns.users)+1) > ns.bytes
}

// namespaceExceeds reports whether the namespace of e has more than the average.
func (s *shares) namespaceExceeds(e *event) bool {
	ns := s.namespaces[e.who.Namespace]
	return ns != nil && ns.bytes*int64(len(s.namespaces)) > s.bytes
}
