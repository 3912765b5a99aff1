package events

// reservedShare is the part of a queue that is kept for users that have little in it: an eighth.
// Half of that is kept for namespaces that have little. Without it a single client could fill the
// queue of a slow subscriber, and the messages of all clients would be dropped.
const reservedShare = 8

// shares is how many bytes of messages namespaces and users have in a queue. Clients without a user
// share those of their address.
type shares struct {
	bytes      int64
	namespaces map[string]*namespaceShare
}

type namespaceShare struct {
	bytes int64
	users map[string]int64
}

// countShares returns the shares of the messages among events.
func countShares(events []*Event) *shares {
	s := &shares{namespaces: map[string]*namespaceShare{}}
	for _, e := range events {
		if e.isMessage() {
			s.addMessage(e)
		}
	}
	return s
}

func (s *shares) addMessage(e *Event) {
	ns := s.namespaces[e.Identity.Namespace]
	if ns == nil {
		ns = &namespaceShare{users: map[string]int64{}}
		s.namespaces[e.Identity.Namespace] = ns
	}
	w := e.weight()
	s.bytes += w
	ns.bytes += w
	ns.users[e.Identity.Payer()] += w
}

func (s *shares) removeMessage(e *Event) {
	ns, user, w := s.namespaces[e.Identity.Namespace], e.Identity.Payer(), e.weight()
	s.bytes -= w
	ns.bytes -= w
	if ns.users[user] -= w; ns.users[user] == 0 {
		delete(ns.users, user)
	}
	if len(ns.users) == 0 {
		delete(s.namespaces, e.Identity.Namespace)
	}
}

// userExceeds reports whether the user of e has its share: the bytes that each user of its
// namespace would have if there were one more user, and all had as much.
func (s *shares) userExceeds(e *Event) bool {
	ns := s.namespaces[e.Identity.Namespace]
	return ns != nil && ns.users[e.Identity.Payer()]*int64(len(ns.users)+1) > ns.bytes
}

// namespaceExceeds reports whether the namespace of e has more than the average.
func (s *shares) namespaceExceeds(e *Event) bool {
	ns := s.namespaces[e.Identity.Namespace]
	return ns != nil && ns.bytes*int64(len(s.namespaces)) > s.bytes
}
