// Package handover turns the state of a connection on its way to another hub into bytes, and back.
// The bytes are messages of handover.proto, the bodies of moves (move.proto).
//
// # Purpose
//
// The new hub must have all that the old hub had: a message, a permission or an id that is lost on
// the way is lost for ever. So tests fill each field of hub.Snapshot and of hub.Op, also fields
// that are added later, and compare the state that arrives.
//
// # Outline
//
//	snapshot.go  hub.Snapshot, for an Offer
//	change.go    lists of hub.Op, for Changes and Last
//	close.go     cause.CloseStatus, for Released
//	claims.go    hub.Claims, with the roles of the client
//	message.go   hub.Envelope
//	moment.go    moments, as the time until them or since them
//	form.go      the bytes
//
// # Clocks
//
// The clocks of two hubs need not agree, so a moment that decides something travels as a span from
// the `now` of the sender to that of the receiver. The time on the network counts for nothing: a
// ttl is longer by it. A moment more than 292 years away counts as 292 years away.
//
// # Versions
//
// A field or a value that this version does not know is an error, and the move fails. The
// connection then stays at the old hub, and has lost nothing.
//
// # Trust
//
// A peer has checked the state that it hands over. The package makes the cheap checks again: names,
// sizes, UTF-8, and all that would break an invariant of hub. It does not check that JSON is valid.
// hub.Moves checks that sequence ids and changes fit the connection.
//
// # Goroutines, locking, errors
//
// There are neither goroutines nor locks: the functions are pure. Errors are ErrBroken and
// ErrUnfit.
package handover
