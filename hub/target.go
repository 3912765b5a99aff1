package hub

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
