package hub

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/names"
)

// Config is what a hub needs to know. DefaultConfig fills all of it but ID.
type Config struct {
	ID      ID
	Name    string // for people: the host's or pod's name
	Version string // of the binary

	// MaxConnections bounds the connections held at once. Beyond it Attach is refused. The last sixteenth is kept for users with fewer than 8
	// connections, or no more than the average; half of that for namespaces with no more than the average.
	// Clients without a user are one user at each address, there and in all other fair shares.
	MaxConnections int

	// Outbox bounds what is queued for one connection, in bytes of payload; but an empty one takes any message. Beyond it the
	// message's overflow policy decides.
	Outbox Bounds
	// Window bounds what is written to one connection and not confirmed, where the protocol has acks.
	// Full, it stops writing.
	Window Bounds
	// AckTimeout is how long a window may be full without a single ack before the connection is closed, with or without a link. A client that
	// comes back later has a few seconds.
	AckTimeout time.Duration
	// HeldBytes caps the memory held by undelivered data: queued messages, unacknowledged messages, pending
	// replies. A message shared by several connections counts once. The list of an outbox that has room for
	// more than 8 messages counts with 8 bytes a place. Above the cap connections are closed (cause.Memory) by
	// fair shares: the largest connection of the largest user of the largest namespace. Of two that hold as
	// much, the detached one goes first.
	HeldBytes int64
	// NamespaceHeldBytes is the same for each namespace, whose own connections pay. NamespaceShare is a good value: with it no
	// namespace can fill the hub's budget alone.
	NamespaceHeldBytes int64
	// DetachedPerUser and DetachedPerAddress bound the connections without a link that wait for a client. When there is one more, the one of
	// the user that has waited longest goes; at an address, that one of the largest user of the largest namespace.
	DetachedPerUser, DetachedPerAddress int
	// ResumeWindow is how long a connection without a link waits for its client.
	ResumeWindow time.Duration

	// RequestIDs is how many request ids are remembered at once, at up to RequestIDBytes each. Within 5
	// minutes the oldest of the largest namespace of the largest caller is forgotten early when there are
	// more.
	RequestIDs int

	Overflow          overflow.Policy            // of sends that name none
	NamespaceOverflow map[string]overflow.Policy // the same for single namespaces

	// Observers see the changes of connections, each those that it asks for.
	Observers []Observer
	// Recorder is called for each send that is not a duplicate, before the send is matched: so a
	// history that it fills has each message that a later member of a group does not get. The
	// message has its id. Deliver waits for Recorder, and calls it concurrently, each time with a
	// copy of the send. Nil: no call.
	Recorder func(*Send)
	Interest Interest              // makes known whom the hub has; nil: it is the only one
	Metrics  prometheus.Registerer // may be nil
}

// DefaultConfig is a good start: an outbox takes any message, and a thousand small ones.
func DefaultConfig() Config {
	return Config{
		MaxConnections: 1_000_000,
		Outbox:         Bounds{Messages: 1000, Bytes: 4 << 20},
		Window:         Bounds{Messages: 20_000, Bytes: 16 << 20}, // SDKs confirm once a second: 4 s at 5,000 messages a second
		AckTimeout:     30 * time.Second,
		ResumeWindow:   60 * time.Second,

		HeldBytes:          1 << 30,
		NamespaceHeldBytes: NamespaceShare(1 << 30),
		DetachedPerUser:    100,
		DetachedPerAddress: 10_000, // an office behind one address that loses its network

		RequestIDs: 262_144, // 870 a second
		Overflow:   overflow.CloseSlow,
	}
}

// RequestIDBytes is the most memory that a remembered request id takes: when its namespace, with
// the longest name, has no more. Where namespaces have many, it is about 500.
const RequestIDBytes = 800

// minQueueBytes keeps a queue from being full with a single message.
const minQueueBytes = 2 * MaxPayload

// minHeldBytes is room for some of the largest messages, each with its forms.
const minHeldBytes = 8 * MaxPayload

// NamespaceShare returns the default of NamespaceHeldBytes for a value of HeldBytes: half of it, but not less than the least valid value.
func NamespaceShare(heldBytes int64) int64 { return max(heldBytes/2, minHeldBytes) }

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ID != "", "ID is not set")
	check(c.MaxConnections > 0, "MaxConnections is %d, must be above 0", c.MaxConnections)
	check(c.Outbox.Messages > 0, "Outbox.Messages is %d, must be above 0", c.Outbox.Messages)
	check(c.Outbox.Bytes >= minQueueBytes, "Outbox.Bytes is %d, must be at least %d", c.Outbox.Bytes, minQueueBytes)
	check(c.Window.Messages > 0, "Window.Messages is %d, must be above 0", c.Window.Messages)
	check(c.Window.Bytes >= minQueueBytes, "Window.Bytes is %d, must be at least %d", c.Window.Bytes, minQueueBytes)
	check(c.AckTimeout > 0, "AckTimeout is %v, must be above 0", c.AckTimeout)
	check(c.ResumeWindow > 0, "ResumeWindow is %v, must be above 0", c.ResumeWindow)
	check(c.HeldBytes >= minHeldBytes, "HeldBytes is %d, must be at least %d", c.HeldBytes, minHeldBytes)
	check(c.NamespaceHeldBytes >= minHeldBytes, "NamespaceHeldBytes is %d, must be at least %d", c.NamespaceHeldBytes, minHeldBytes)
	check(c.DetachedPerUser > 0, "DetachedPerUser is %d, must be above 0", c.DetachedPerUser)
	check(c.DetachedPerAddress > 0, "DetachedPerAddress is %d, must be above 0", c.DetachedPerAddress)
	check(c.RequestIDs > 0, "RequestIDs is %d, must be above 0", c.RequestIDs)
	for i, o := range c.Observers {
		check(o.Applied != nil || o.Emitted != nil, "Observers[%d] has no function", i)
	}
	check(c.Overflow.ValidDefault(), "Overflow can't be a default")
	for name, p := range c.NamespaceOverflow {
		check(names.IsNamespace(name), "NamespaceOverflow: %q is not a namespace", name)
		check(p.ValidDefault(), "NamespaceOverflow: policy of %q can't be a default", name)
	}
	return errors.Join(errs...)
}
