// Package verdict judges the history of a run of test/chaos: it says which promises of connhub the
// run has broken. Only tests import it.
//
// Purpose: a run records each call, each answer and each message as an Event, in the order in which
// the test process saw them. Judge holds that order against the table of rules (rules.go).
// CountHits tells which faults struck while sends were under way. Excerpt finds the events around a
// violation.
//
// The rules are sound: they accept every history that the promises allow. An event is recorded
// before its call begins, and after its answer has come, so an interval of a call contains the
// moment at which the hubs did it. A rule speaks only of certain facts:
//
//   - A connection certainly matches a target during a call if its client knew of it before the
//     call, and if it later got a message whose send began after the call had returned.
//   - A connection possibly matches if its handshake began before the call returned. A handshake
//     that failed may have left a connection behind, of which its client does not know.
//   - A call is clean at a connection if its last attempt succeeded and names no hub of the
//     connection as unreachable.
//
// Life, goroutines, locking, backpressure: none. Everything here is a function of its arguments.
//
// Errors: a violated promise is a value (Violation). Judge panics if a history does not fit
// together, for instance if a message arrives that no event has sent: then the recorder is wrong.
package verdict
