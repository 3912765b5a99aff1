// Package cause says why connections end and why messages are dropped. It imports nothing of
// ours, so every part can name a cause: the core, the client side, the control API.
package cause

import "fmt"

// Cause says why a connection ended. The table causes has a row for each: it feeds the close frame,
// the metric label and the log line.
type Cause uint8

const (
	// Client: the client closed with a close frame.
	Client Cause = iota + 1
	// Lost: the client went away without a close frame.
	Lost
	// Backend: a backend closed it, with its own code and reason.
	Backend
	// Slow: the outbox was full and the message's policy was to close.
	Slow
	// PingTimeout: nothing was heard after a ping.
	PingTimeout
	// Protocol: the client broke RFC 6455 or its subprotocol.
	Protocol
	// InvalidText: a text message was not UTF-8.
	InvalidText
	// Unsupported: a message type that the subprotocol does not have.
	Unsupported
	// PolicyViolation: the client lacked the permission.
	PolicyViolation
	// TokenExpired: the token that opened the connection expired, and the connection ends with it.
	TokenExpired
	// TooBig: a message of the client was over the limit.
	TooBig
	// SlowMessage: a message of the client was not complete in time.
	SlowMessage
	// Handshake: the upgrade failed after the connection was registered.
	Handshake
	// ResumeExpired: the client did not resume in time.
	ResumeExpired
	// DetachedLimit: its user or its address had too many connections without a link.
	DetachedLimit
	// AckStuck: the client confirmed nothing for too long while its tail was full.
	AckStuck
	// Memory: a byte budget of the hub was used up.
	Memory
	// Shutdown: the hub stopped.
	Shutdown
	// Internal: a fault in the hub.
	Internal
	// Forgotten: the hub's peers may have forgotten it, so the connection may have missed messages.
	Forgotten
	// Moved: the connection goes on at a different hub. Its link here ends, and nothing else. The
	// client resumes by itself: reliable clients of Web PubSub do after any code but 1008.
	Moved
	// HubLost: the hub that took the connection over, or may have, is dead, or calls for the
	// connection were lost on the way there.
	HubLost

	// End follows the last cause: it is the length of an array with a place for each.
	End
)

// causes is the table of all causes. Codes: RFC 6455 §7.4.1 and the IANA registry. Code 0: the hub
// sends no close frame, because no client is there to read it.
var causes = [End]struct {
	label  string
	code   uint16
	reason string
}{
	Client:          {"client", 1000, ""},
	Lost:            {"lost", 0, ""},
	Backend:         {"backend", 1000, ""},
	Slow:            {"slow", 1013, "too slow: outbox full"},
	PingTimeout:     {"ping_timeout", 1001, "ping timeout"},
	Protocol:        {"protocol", 1002, "protocol error"},
	InvalidText:     {"invalid_text", 1007, "text is not UTF-8"},
	Unsupported:     {"unsupported", 1003, "message type not supported"},
	PolicyViolation: {"policy", 1008, "policy violation"},
	TokenExpired:    {"token_expired", 1008, "token expired"},
	TooBig:          {"too_big", 1009, "message too big"},
	SlowMessage:     {"slow_message", 1008, "message not complete in time"},
	Handshake:       {"handshake", 0, ""},
	ResumeExpired:   {"resume_expired", 0, ""},
	DetachedLimit:   {"detached_limit", 0, ""},
	AckStuck:        {"ack_stuck", 1008, "no acknowledgement"},
	Memory:          {"memory", 1013, "hub is short of memory"},
	Shutdown:        {"shutdown", 1001, "hub is shutting down"},
	Internal:        {"internal", 1011, "internal error"},
	Forgotten:       {"forgotten", 1012, "hub restarts"},
	Moved:           {"moved", 1012, "connection has moved"},
	HubLost:         {"hub_lost", 1012, "hub lost"},
}

// Orderly reports whether queued messages still go out before the close frame.
func (c Cause) Orderly() bool { return c == Backend || c == Shutdown }

// Resumable reports whether the client may resume after this cause, if its protocol can.
func (c Cause) Resumable() bool { return c == Lost || c == PingTimeout }

// All returns every cause, for metrics that want each label from the start.
func All() []Cause {
	all := make([]Cause, 0, End-1)
	for c := Client; c < End; c++ {
		all = append(all, c)
	}
	return all
}

// String is the metric label.
func (c Cause) String() string {
	if c == 0 || c >= End {
		return fmt.Sprintf("cause_%d", uint8(c))
	}
	return causes[c].label
}

// MaxReason is the most bytes of a close reason (RFC 6455 §5.5: 125 less the code).
const MaxReason = 123

// CloseStatus says how a connection ends: the cause, and the close frame that its client gets.
type CloseStatus struct {
	Cause  Cause  // its label is in the metric and the log line
	Code   uint16 // 0: no close frame is sent
	Reason string // at most MaxReason bytes
}

// EndOfClient returns s, or nil if s is nil or says only that the hub has ended: at a different hub
// the connection goes on.
func (s *CloseStatus) EndOfClient() *CloseStatus {
	if s == nil || s.Cause == Shutdown || s.Cause == Forgotten {
		return nil
	}
	return s
}

// CloseStatus returns the close status of the cause, with the code and reason of the table.
func (c Cause) CloseStatus() CloseStatus {
	return CloseStatus{Cause: c, Code: causes[c].code, Reason: causes[c].reason}
}

// DropReason says why a message did not reach a connection. It is the metric label and, in the API,
// the enum of the same names.
type DropReason uint8

const (
	// DropClosed: the connection closed before the message was written.
	DropClosed DropReason = iota + 1
	// DropOverflowNewest: outbox full, policy DropNewest.
	DropOverflowNewest
	// DropOverflowOldest: outbox full, and a newer message took the place.
	DropOverflowOldest
	// DropOverflowClose: outbox full, policy CloseSlow.
	DropOverflowClose
	// DropConflated: a newer message with the same key took the place.
	DropConflated
	// DropExpired: the ttl ran out first.
	DropExpired

	// DropEnd follows the last reason: it is the length of an array with a place for each.
	DropEnd
)

var dropLabels = [DropEnd]string{
	DropClosed:         "closed",
	DropOverflowNewest: "overflow_newest",
	DropOverflowOldest: "overflow_oldest",
	DropOverflowClose:  "overflow_close",
	DropConflated:      "conflated",
	DropExpired:        "expired",
}

// DropReasons returns every reason.
func DropReasons() []DropReason {
	all := make([]DropReason, 0, DropEnd-1)
	for r := DropClosed; r < DropEnd; r++ {
		all = append(all, r)
	}
	return all
}

// String is the metric label.
func (r DropReason) String() string {
	if r == 0 || r >= DropEnd {
		return fmt.Sprintf("drop_%d", uint8(r))
	}
	return dropLabels[r]
}
