package hub

import "github.com/connhub/connhub/hub/cause"

// maxReplies bounds the bytes that wait for a client that sends commands and does not read the
// answers.
const maxReplies = 64 << 10

// Reply has the link write a message of the protocol, an answer to the client, before the messages
// that wait. kind is Text or Binary. The message is for the link that has the Turn, or else for the
// present link. If that link is gone, Reply drops the message. The caller may change message
// afterwards.
//
// If more than 64 KiB of answers wait, Reply closes the connection (cause.Slow). Above 1 KiB they
// count in the budgets of held bytes. It returns ErrClosed.
func (c *Connection) Reply(kind PayloadKind, message []byte) error {
	c.mu.Lock()
	link := c.link
	switch {
	case c.state.isGone():
		c.mu.Unlock()
		return ErrClosed
	case link == nil, c.numbering != nil && c.numbering.turn.isOfOther(link):
		c.mu.Unlock()
		return nil
	}
	first := newFirst()
	if c.first != nil {
		*first = *c.first
	}
	*first = c.dialect.AppendReply(*first, kind, message)
	if c.first != nil && len(*first) > maxReplies {
		c.closeLocked(cause.Slow.CloseStatus())
		c.mu.Unlock()
		c.closeLink(link, cause.Slow.CloseStatus())
		return ErrClosed
	}
	c.putFirstLocked(first)
	waits := firstWeight(first) > 0
	c.mu.Unlock()
	link.Flush()
	if waits {
		c.hub().holdings.enforceBounds(c.namespace)
	}
	return nil
}

// newFirst returns a value for carriage.first. A short answer in it, such as an ack or a pong,
// needs no further allocation.
func newFirst() *[]byte {
	made := new(struct {
		bytes []byte
		room  [72]byte
	})
	made.bytes = made.room[:0]
	return &made.bytes
}

// putFirstLocked sets the bytes that the link writes before messages; nil or empty: none. It
// changes the budgets.
func (c *Connection) putFirstLocked(first *[]byte) {
	if first != nil && len(*first) == 0 {
		first = nil
	}
	if more := firstWeight(first) - firstWeight(c.first); more != 0 {
		c.namespace.countHeld(more)
	}
	c.first = first
}

// firstUncounted is how many bytes of greeting and replies are not in the budgets. A client that
// reads has fewer, and does without the counters that all connections share.
const firstUncounted = 1 << 10

// firstWeight returns the bytes that greeting and replies take in the budgets.
func firstWeight(first *[]byte) int64 {
	if first == nil || len(*first) <= firstUncounted {
		return 0
	}
	return int64(len(*first))
}
