package hub

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/names"
)

// Config is the configuration of a hub. DefaultConfig fills all fields but ID.
type Config struct {
	// ID names the hub process. It is required.
	ID ID
	// Name is for people: the name of the host or pod.
	Name string
	// Version is that of the binary.
	Version string

	// MaxConnections bounds the connections that the hub holds at once. Above it Attach refuses.
	//
	// The last sixteenth is reserved for users with fewer than 8 connections, or with no more than
	// the average. Half of that is reserved for namespaces with no more than the average. Clients
	// without a user count as one user at each address, here and in all fair shares.
	MaxConnections int

	// Outbox bounds the queue of one connection, in messages and in bytes of payload. An empty
	// queue takes any message. Above the bound the message's overflow policy decides.
	Outbox Bounds
	// Window bounds the messages that are written to one connection and not confirmed, if the
	// protocol has acks. When the window is full, the connection stops writing.
	Window Bounds
	// AckTimeout is how long a window may be full without a single ack. Then the connection is
	// closed, with or without a link. A client that comes back later gets a few seconds.
	AckTimeout time.Duration
	// HeldBytes caps the memory held by undelivered data: queued messages, unacknowledged messages,
	// pending replies. A message shared by several connections counts once. The list of an outbox
	// with room for more than 8 messages counts 8 bytes a place.
	//
	// Above the cap the hub closes connections (cause.Memory) by fair shares: the largest
	// connection of the largest user of the largest namespace. Of two that hold the same, it closes
	// a detached one first.
	HeldBytes int64
	// NamespaceHeldBytes is the same cap for each namespace, whose own connections pay. The default
	// is NamespaceShare: no namespace can fill the hub's budget alone.
	NamespaceHeldBytes int64
	// DetachedPerUser and DetachedPerAddress bound the connections that wait for their clients.
	// Above the bound of a user, its connection that has waited longest is closed. At an address it
	// is that of the largest user of the largest namespace.
	DetachedPerUser, DetachedPerAddress int
	// ResumeWindow is how long a connection without a link waits for its client.
	ResumeWindow time.Duration

	// RequestIDs bounds the request ids that the hub remembers at once, each for 5 minutes, with up
	// to RequestIDBytes each. Above the bound the hub forgets early: the oldest id of the largest
	// namespace of the largest caller.
	RequestIDs int

	// Overflow is the policy of sends that name none.
	Overflow overflow.Policy
	// NamespaceOverflow is the same for single namespaces.
	NamespaceOverflow map[string]overflow.Policy

	// Observers see the changes of connections. Each sees the kinds that it asks for.
	Observers []Observer
	// Recorder is called for each send that is not a duplicate, before the send is matched. So a
	// history that it fills has each message that a later member of a group does not get. The
	// message has its id. Deliver waits for Recorder, and calls it concurrently, each time with a
	// copy of the send. Nil: no call.
	Recorder func(*Send)
	// Interest tells the cluster which users and groups this hub has; nil: there is no cluster.
	Interest Interest
	// Metrics may be nil: then nothing is registered.
	Metrics prometheus.Registerer
}

// DefaultConfig returns the defaults: an outbox takes any single message, or a thousand small ones.
func DefaultConfig() Config {
	return Config{
		MaxConnections: 1_000_000,
		Outbox:         Bounds{Messages: 1000, Bytes: 4 << 20},
		// SDKs confirm once a second: the window is 4 s at 5,000 messages a second.
		Window:       Bounds{Messages: 20_000, Bytes: 16 << 20},
		AckTimeout:   30 * time.Second,
		ResumeWindow: 60 * time.Second,

		HeldBytes:          1 << 30,
		NamespaceHeldBytes: NamespaceShare(1 << 30),
		DetachedPerUser:    100,
		// An office behind a single address may lose its network.
		DetachedPerAddress: 10_000,

		RequestIDs: 262_144, // 870 a second
		Overflow:   overflow.CloseSlow,
	}
}

// RequestIDBytes is the most memory that a remembered request id takes: its namespace has the
// longest name and no second id. In a namespace with many ids it is about 500 bytes.
const RequestIDBytes = 800

// minQueueBytes keeps a queue from being full with a single message.
const minQueueBytes = 2 * MaxPayload

// minHeldBytes is room for some of the largest messages, each with its forms.
const minHeldBytes = 8 * MaxPayload

// NamespaceShare returns the default of NamespaceHeldBytes for a value of HeldBytes: half of it,
// but at least the least valid value.
func NamespaceShare(heldBytes int64) int64 { return max(heldBytes/2, minHeldBytes) }

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	atLeast := func(field string, value, least int64) {
		p.Require(value >= least, field, "is %d, must be at least %d", value, least)
	}
	p.Require(c.ID != "", "ID", "is not set")
	p.RequirePositive("MaxConnections", c.MaxConnections)
	p.RequirePositive("Outbox.Messages", c.Outbox.Messages)
	atLeast("Outbox.Bytes", c.Outbox.Bytes, minQueueBytes)
	p.RequirePositive("Window.Messages", c.Window.Messages)
	atLeast("Window.Bytes", c.Window.Bytes, minQueueBytes)
	p.Require(c.AckTimeout > 0, "AckTimeout", "is %v, must be above 0", c.AckTimeout)
	p.Require(c.ResumeWindow > 0, "ResumeWindow", "is %v, must be above 0", c.ResumeWindow)
	atLeast("HeldBytes", c.HeldBytes, minHeldBytes)
	atLeast("NamespaceHeldBytes", c.NamespaceHeldBytes, minHeldBytes)
	p.RequirePositive("DetachedPerUser", c.DetachedPerUser)
	p.RequirePositive("DetachedPerAddress", c.DetachedPerAddress)
	p.RequirePositive("RequestIDs", c.RequestIDs)
	for i, o := range c.Observers {
		p.Require(o.Applied != nil || o.Emitted != nil,
			fmt.Sprintf("Observers[%d]", i), "has no function")
	}
	p.Require(c.Overflow.ValidDefault(), "Overflow", "can't be a default")
	for name, policy := range c.NamespaceOverflow {
		p.Require(names.IsNamespace(name), "NamespaceOverflow", "%q is not a namespace", name)
		p.Require(policy.ValidDefault(), "NamespaceOverflow", "of %q can't be a default", name)
	}
	return p
}
