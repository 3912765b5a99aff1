package hub

import "fmt"

// Cause says why a connection ended. Each has one row in the table below, which feeds the close frame,
// the metric label and the log line.
type Cause uint8

const (
	// CauseClient: the client closed with a close frame.
	CauseClient Cause = iota + 1
	// CauseLost: the client went away without a close frame.
	CauseLost
	// CauseBackend: a backend closed it, with its own code and reason.
	CauseBackend
	// CauseSlow: the outbox was full and the message's policy was to close.
	CauseSlow
	// CausePingTimeout: nothing was heard after a ping.
	CausePingTimeout
	// CauseProtocol: the client broke RFC 6455 or its subprotocol.
	CauseProtocol
	// CauseInvalidText: a text message was not UTF-8.
	CauseInvalidText
	// CauseUnsupported: a message type that the subprotocol does not have.
	CauseUnsupported
	// CausePolicy: the client did what it may not do.
	CausePolicy
	// CauseTokenExpired: the token that opened the connection expired, and connections end with theirs.
	CauseTokenExpired
	// CauseTooBig: a message of the client was over the limit.
	CauseTooBig
	// CauseSlowMessage: a message of the client was not complete in time.
	CauseSlowMessage
	// CauseHandshake: the upgrade failed after the connection was registered.
	CauseHandshake
	// CauseResumeExpired: the client did not resume in time.
	CauseResumeExpired
	// CauseDetachedLimit: its user, or its address, had too many connections that waited for their clients.
	CauseDetachedLimit
	// CauseAckStuck: the client confirmed nothing for too long while its tail was full.
	CauseAckStuck
	// CauseMemory: a byte budget of the hub was used up.
	CauseMemory
	// CauseShutdown: the hub stopped.
	CauseShutdown
	// CauseInternal: a fault in the hub.
	CauseInternal
	// CauseForgotten: other hubs may have forgotten the hub, so that messages may have missed the connection.
	CauseForgotten

	causeEnd
)

// causes is the one table. Codes: RFC 6455 §7.4.1 and the IANA registry; 0 means that no close frame
// is sent, because there is nobody to read it.
var causes = [causeEnd]struct {
	label  string
	code   uint16
	reason string
}{
	CauseClient:        {"client", 1000, ""},
	CauseLost:          {"lost", 0, ""},
	CauseBackend:       {"backend", 1000, ""},
	CauseSlow:          {"slow", 1013, "too slow: outbox full"},
	CausePingTimeout:   {"ping_timeout", 1001, "ping timeout"},
	CauseProtocol:      {"protocol", 1002, "protocol error"},
	CauseInvalidText:   {"invalid_text", 1007, "text is not UTF-8"},
	CauseUnsupported:   {"unsupported", 1003, "message type not supported"},
	CausePolicy:        {"policy", 1008, "policy violation"},
	CauseTokenExpired:  {"token_expired", 1008, "token expired"},
	CauseTooBig:        {"too_big", 1009, "message too big"},
	CauseSlowMessage:   {"slow_message", 1008, "message not complete in time"},
	CauseHandshake:     {"handshake", 0, ""},
	CauseResumeExpired: {"resume_expired", 0, ""},
	CauseDetachedLimit: {"detached_limit", 0, ""},
	CauseAckStuck:      {"ack_stuck", 1008, "no acknowledgement"},
	CauseMemory:        {"memory", 1013, "hub is short of memory"},
	CauseShutdown:      {"shutdown", 1001, "hub is shutting down"},
	CauseInternal:      {"internal", 1011, "internal error"},
	CauseForgotten:     {"forgotten", 1012, "hub restarts"},
}

// orderly reports whether what is queued still goes out before the goodbye.
func (c Cause) orderly() bool { return c == CauseBackend || c == CauseShutdown }

// Resumable reports whether a client may come back after its wire ended like this, if its protocol can.
func (c Cause) Resumable() bool { return c == CauseLost || c == CausePingTimeout }

// Causes returns every cause, for metrics that want each label from the start.
func Causes() []Cause {
	all := make([]Cause, 0, causeEnd-1)
	for c := CauseClient; c < causeEnd; c++ {
		all = append(all, c)
	}
	return all
}

// String is the metric label.
func (c Cause) String() string {
	if c == 0 || c >= causeEnd {
		return fmt.Sprintf("cause_%d", uint8(c))
	}
	return causes[c].label
}

// Close is how a connection ends: why, and what its client is told. Code 0 sends no close frame.
type Close struct {
	Cause  Cause
	Code   uint16
	Reason string // at most MaxCloseReason bytes
}

// NewClose returns the close of a cause with the code and reason of the table.
func NewClose(c Cause) Close {
	return Close{Cause: c, Code: causes[c].code, Reason: causes[c].reason}
}

// DropReason says why a message did not reach a connection. It is the metric label and, in the API, the
// enum of the same names.
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

	dropEnd
)

var dropLabels = [dropEnd]string{
	DropClosed:         "closed",
	DropOverflowNewest: "overflow_newest",
	DropOverflowOldest: "overflow_oldest",
	DropOverflowClose:  "overflow_close",
	DropConflated:      "conflated",
	DropExpired:        "expired",
}

// DropReasons returns every reason.
func DropReasons() []DropReason {
	all := make([]DropReason, 0, dropEnd-1)
	for r := DropClosed; r < dropEnd; r++ {
		all = append(all, r)
	}
	return all
}

// String is the metric label.
func (r DropReason) String() string {
	if r == 0 || r >= dropEnd {
		return fmt.Sprintf("drop_%d", uint8(r))
	}
	return dropLabels[r]
}

// Policy says what happens when a connection's outbox has no room for a message. Messages that have left
// the outbox are never touched.
type Policy uint8

const (
	// PolicyDefault is the namespace's own.
	PolicyDefault Policy = iota
	// CloseSlow closes the connection (1013).
	CloseSlow
	// DropOldest makes room by dropping the oldest queued messages.
	DropOldest
	// DropNewest drops the message itself.
	DropNewest
	// Conflate takes the place of the queued message with the same key, full or not; without one it
	// queues, and makes room as DropOldest.
	Conflate
)
