package verdict

import (
	"fmt"
	"strings"
	"time"
)

// Kind says which of an Event's fields are set.
type Kind int

// The kinds of events. Each lists its fields; At and Kind are always set.
const (
	// Sent: an attempt of a send begins. Send, Caller, Stream, Hub, Target.
	Sent Kind = iota + 1
	// Answered: the attempt is over. Send, Hub, Outcome, Receipt if it succeeded.
	Answered
	// Dialled: a client begins a handshake. Client, Link, Hub; Connection if it resumes.
	Dialled
	// Connected: the handshake succeeded. Client, Link, Connection.
	Connected
	// Failed: the handshake did not succeed, or its outcome is unknown. Client, Link.
	Failed
	// Refused: the hub does not have the connection that the client resumes. Client, Link,
	// Connection, Hub.
	Refused
	// Arrived: a message has come, and is not acknowledged yet. Client, Link, Connection, Send;
	// Sequence if the client is reliable.
	Arrived
	// Lost: the link is over. Client, Link, Connection; Code if the hub has closed it.
	Lost
	// Published: a client publishes a message to one of its own groups, or does so again, because
	// it has no ack and is back on a new link. Client, Link, Connection, Send, Target.
	Published
	// Confirmed: the hub has acked the message. Client, Link, Connection, Send.
	Confirmed
	// Joining: a call that adds a connection to a group begins. Connection, Group.
	Joining
	// Joined: that call is over. Connection, Group, Outcome, Receipt: Matched has the memberships
	// that exist now.
	Joined
	// Leaving: a call that removes a connection from a group begins. Connection, Group.
	Leaving
	// Left: that call is over. Connection, Group, Outcome, Receipt.
	Left
	// Kicking: a call that closes a connection begins. Connection.
	Kicking
	// Kicked: that call is over. Connection, Outcome, Receipt.
	Kicked
	// Disconnected: a hub has told backends, by an event, that a connection is over. Connection.
	Disconnected
	// Stopping: a hub is about to be told to stop or to drain. Hub.
	Stopping
	// Killing: a hub is about to end without a word, or to stand still for so long that its peers
	// forget it. Hub.
	Killing
	// Gone: the process of a hub has ended. Hub.
	Gone
	// Struck: a fault is in force. Fault, Hub if it is at a hub.
	Struck
	// Mended: a fault is over. Fault, Hub if it was at a hub.
	Mended
)

var kindNames = [...]string{
	Sent: "sent", Answered: "answered", Dialled: "dialled", Connected: "connected",
	Failed: "failed", Refused: "refused", Arrived: "arrived", Lost: "lost",
	Published: "published", Confirmed: "confirmed", Joining: "joining",
	Joined: "joined", Leaving: "leaving", Left: "left", Kicking: "kicking", Kicked: "kicked",
	Disconnected: "told over",
	Stopping:     "stopping", Killing: "killing", Gone: "gone", Struck: "struck", Mended: "mended",
}

// String returns the name of the kind.
func (k Kind) String() string { return kindNames[k] }

// Outcome is what a caller knows of a call that is over.
type Outcome int

// The outcomes.
const (
	// Unknown: the call failed, and may have been carried out.
	Unknown Outcome = iota
	// Succeeded: the call returned an answer.
	Succeeded
	// Declined: the call failed, and the error promises that nothing was done.
	Declined
)

var outcomeNames = [...]string{
	Unknown: "unknown", Succeeded: "succeeded", Declined: "declined",
}

// String returns the name of the outcome.
func (o Outcome) String() string { return outcomeNames[o] }

// Target is the target of a send. Exactly one field is set.
type Target struct {
	Connection string // an id
	User       string // a name
	Group      string // a name
	Everyone   bool   // all connections
}

// String returns the field that is set.
func (t Target) String() string {
	switch {
	case t.Connection != "":
		return "c:" + t.Connection
	case t.User != "":
		return "u:" + t.User
	case t.Group != "":
		return "g:" + t.Group
	}
	return "everyone"
}

// Receipt is the part of an answer that the rules look at. Numbers count connections.
type Receipt struct {
	Matched     int      // all matching connections
	States      int      // the sum of all states; equal to Matched, unless the receipt is wrong
	Acked       int      // connections whose client has acknowledged the message
	Dropped     int      // connections that will not get the message
	InTransfer  int      // connections that were on the move when the wait ended
	Unreachable []string // ids of hubs that the numbers leave out
	Duplicate   bool     // a hub had seen an earlier attempt
}

// Event is one line of a history. Kind tells which fields are set.
type Event struct {
	At   time.Duration // since the run began; the order of events counts, not this time
	Kind Kind          // of the event

	// Of clients.
	Client     int    // its index in History.Clients
	Link       int    // number of the handshake, from 1; no two handshakes of a history share one
	Connection string // id of the connection, `<hub>.<random>`
	Sequence   int64  // number that the hub gave the message; 0: the client is not reliable
	Code       int    // of the hub's close frame; 0: the link ended without one

	// Of calls.
	Send    int     // number of the send, from 1; all of its attempts share it
	Caller  int     // number of the backend
	Stream  int     // number of the SendStream, from 1; 0: the attempt is a call of its own
	Target  Target  // of the send
	Group   string  // that is joined or left
	Outcome Outcome // of a call that is over
	Receipt Receipt // of a call that has succeeded

	Hub   string // id of the hub that is called, dialled or struck
	Fault string // name of the fault
}

// String returns the event as a line for people.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%9.3fs %-9s", e.At.Seconds(), e.Kind)
	add := func(format string, isSet bool, value any) {
		if isSet {
			fmt.Fprintf(&b, " "+format, value)
		}
	}
	add("fault=%s", e.Fault != "", e.Fault)
	add("send=%d", e.Send > 0, e.Send)
	add("caller=%d", e.Kind == Sent, e.Caller)
	add("stream=%d", e.Stream > 0, e.Stream)
	add("target=%s", e.Kind == Sent, e.Target)
	add("client=%d", e.Link > 0, e.Client)
	add("link=%d", e.Link > 0, e.Link)
	add("connection=%s", e.Connection != "", e.Connection)
	add("group=%s", e.Group != "", e.Group)
	add("sequence=%d", e.Sequence > 0, e.Sequence)
	add("code=%d", e.Code > 0, e.Code)
	add("hub=%s", e.Hub != "", e.Hub)
	switch e.Kind {
	case Answered, Joined, Left, Kicked:
		add("%s", true, e.Outcome)
		add("%+v", e.Outcome == Succeeded, e.Receipt)
	default:
	}
	return b.String()
}

// Client is a client of a run. It keeps its user and groups over all of its connections.
type Client struct {
	User     string   // name; connections of several clients may share it
	Groups   []string // groups that each of its connections joins by its token
	Reliable bool     // it resumes connections, and acknowledges messages
}

// History is the record of a run.
type History struct {
	Clients []Client // all that ever connect
	Events  []Event  // in the order in which the test process saw them
}

// HubOf returns the hub at which a connection was born.
func HubOf(connection string) string {
	hub, _, _ := strings.Cut(connection, ".")
	return hub
}
