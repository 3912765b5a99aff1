package hub

import "github.com/connhub/connhub/hub/cause"

// maxReplies bounds the bytes that wait for a client which sends commands and does not read the answers.
const maxReplies = 64 << 10

// Reply has the link write a frame in front of the messages that wait: an answer to the client. It is for the link whose Turn it is, otherwise
// for the present one; if that is gone, it is dropped. The caller does not change frame any more. A client that lets 64 KiB of answers wait
// is closed (cause.Slow). Beyond 1 KiB they count in the budgets of bytes that are held. Error: ErrClosed.
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

// putFirstLocked says what the link writes before messages. It changes the budgets.
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

// firstUncounted is how many bytes of greeting and replies are not in the budgets: a client that reads has fewer, and does without the counters
// that all share.
const firstUncounted = 1 << 10

// firstWeight is what greeting and replies take in the budgets.
func firstWeight(first *[]byte) int64 {
	if first == nil || len(*first) <= firstUncounted {
		return 0
	}
	return int64(len(*first))
}
