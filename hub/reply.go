package hub

import "github.com/connhub/connhub/hub/cause"

// maxReplies bounds the bytes that wait for a client that sends commands and does not read the
// answers.
const maxReplies = 64 << 10

// Reply has the link write a frame, an answer to the client, before the messages that wait. The
// frame is for the link that has the Turn, or else for the present link. If that link is gone,
// Reply drops the frame. The caller must not change frame any more.
//
// If more than 64 KiB of answers wait, Reply closes the connection (cause.Slow). Above 1 KiB they
// count in the budgets of held bytes. It returns ErrClosed.
func (c *Connection) Reply(frame []byte) error {
	c.mu.Lock()
	link := c.link
	switch {
	case c.state.isGone():
		c.mu.Unlock()
		return ErrClosed
	case link == nil, c.numbering != nil && c.numbering.turn.isOfOther(link):
		c.mu.Unlock()
		return nil
	case c.first == nil:
		c.putFirstLocked(frame)
	case len(*c.first)+len(frame) > maxReplies:
		c.closeLocked(cause.Slow.CloseStatus())
		c.mu.Unlock()
		c.closeLink(link, cause.Slow.CloseStatus())
		return ErrClosed
	default:
		c.putFirstLocked(append(*c.first, frame...))
	}
	waits := firstWeight(c.first) > 0
	c.mu.Unlock()
	link.Flush()
	if waits {
		c.hub().holdings.enforceBounds(c.namespace)
	}
	return nil
}

// putFirstLocked sets the bytes that the link writes before messages. It changes the budgets.
func (c *Connection) putFirstLocked(frames []byte) {
	before := firstWeight(c.first)
	c.first = nil
	if len(frames) > 0 {
		c.first = &frames
	}
	if more := firstWeight(c.first) - before; more != 0 {
		c.namespace.countHeld(more)
	}
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
