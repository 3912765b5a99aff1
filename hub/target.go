package hub

import "slices"

// Target names connections: those that match any part of it at the moment of a call, less those
// that match Except. The zero Target matches none.
type Target struct {
	// Connections are ids, Users and Groups are names. The order of Groups decides the route of a
	// member of several.
	Connections, Users, Groups []string
	// Everyone matches all connections of the namespace.
	Everyone bool
	// Except is left out.
	Except Exclusion
	// Only limits the Target to a connection: that connection matches if it matches the rest of the
	// Target. Its route, and the unmatched names, are as if there were no other connection. Empty:
	// no limit.
	Only ConnectionID
}

// Exclusion is the part that a Target leaves out.
type Exclusion struct {
	// Connections are ids, Users and Groups are names.
	Connections, Users, Groups []string
}

// Empty reports whether t names nothing. Except names nothing by itself.
func (t *Target) Empty() bool {
	return !t.Everyone && len(t.Connections) == 0 && len(t.Users) == 0 && len(t.Groups) == 0
}

func (e *Exclusion) isEmpty() bool {
	return len(e.Connections) == 0 && len(e.Users) == 0 && len(e.Groups) == 0
}

// routeTo returns the part by which t matches a connection: with RouteGroup, group is the index of
// the group in t.Groups. kind is 0 if t does not match the connection.
func (t *Target) routeTo(s *State) (kind RouteKind, group int) {
	isMember := func(group string) bool { return slices.Contains(s.Groups, group) }
	id := string(s.ID)
	switch e := &t.Except; {
	case t.Only != "" && t.Only != s.ID, slices.Contains(e.Connections, id),
		s.User != "" && slices.Contains(e.Users, s.User),
		slices.ContainsFunc(e.Groups, isMember):
		return 0, 0
	case slices.Contains(t.Connections, id):
		return RouteConnection, 0
	case s.User != "" && slices.Contains(t.Users, s.User):
		return RouteUser, 0
	}
	if group = slices.IndexFunc(t.Groups, isMember); group >= 0 {
		return RouteGroup, group
	}
	if t.Everyone {
		return RouteEveryone, 0
	}
	return 0, 0
}

// matchesNow reports whether t matches a connection at this moment, also if it is on the move.
func (t *Target) matchesNow(c *Connection) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind, _ := t.routeTo(&c.state)
	return kind != 0 && c.state.Phase != PhaseClosed
}

// listUnmatched returns the names of t that do not name a connection.
func (t *Target) listUnmatched(s *State) (un Unmatched) {
	without := func(names []string, isIt func(string) bool) (left []string) {
		for _, name := range names {
			if !isIt(name) {
				left = append(left, name)
			}
		}
		return left
	}
	un.Connections = without(t.Connections, func(id string) bool { return id == string(s.ID) })
	un.Users = without(t.Users, func(user string) bool { return user != "" && user == s.User })
	un.Groups = without(t.Groups, func(g string) bool { return slices.Contains(s.Groups, g) })
	return un
}

// Unmatched lists the names of a Target that matched no connection, before Except was applied.
type Unmatched struct {
	// Connections are ids, Users and Groups are names.
	Connections, Users, Groups []string
}

// RouteKind is the part of a Target by which a message reached a connection.
type RouteKind uint8

// A connection that matches several parts gets the first of these that it matches. Among groups it
// gets the first in the order of the request.
const (
	RouteConnection RouteKind = iota + 1
	RouteUser
	RouteGroup
	RouteEveryone
)

// Route is why a message reached a connection. Protocols show it.
type Route struct {
	// Kind is the part of the Target that matched.
	Kind RouteKind
	// Group is set for RouteGroup.
	Group string
}
