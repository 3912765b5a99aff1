// Package overflow names the policies for a full outbox. It imports nothing of ours.
package overflow

// Policy decides which message or connection gives way when an outbox has no room for a message.
// Messages that have left the outbox are never touched.
type Policy uint8

const (
	// Default is the namespace's own.
	Default Policy = iota
	// CloseSlow closes the connection (1013).
	CloseSlow
	// DropOldest makes room by dropping the oldest queued messages.
	DropOldest
	// DropNewest drops the message itself.
	DropNewest
	// Conflate replaces the queued message with the same key, full or not. If no queued message
	// has the key, the message is queued, and makes room as DropOldest does.
	Conflate
)

// ValidDefault reports whether p can serve sends that name no policy. Conflate can't: it needs a
// key from the send.
func (p Policy) ValidDefault() bool { return p == CloseSlow || p == DropOldest || p == DropNewest }
