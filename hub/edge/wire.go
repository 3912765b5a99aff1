package edge

import (
	"errors"
	"net"
	"os"
	"time"
	"unicode/utf8"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/budget"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// wire is the net.Conn of a reader for coder/websocket, which reads frames from it and writes
// control frames to it. Nothing uses coder/websocket's Write or Writer for data.
type wire reader

var _ net.Conn = (*wire)(nil)

// Read reads the client's bytes. The goroutine that runs the link calls it. Between messages it
// returns netpoll.ErrIdle if there is no input. After this error coder/websocket can go on as if it
// had not happened (canary_test.go pins that). In the middle of a message it waits.
func (w *wire) Read(b []byte) (int, error) {
	r, l := (*reader)(w), w.link
	for {
		n, err := r.takeFrame(&l.socket, l.protocol.most, b)
		if r.control && r.controlAt == 0 {
			r.controlAt = l.server.sinceStart()
		}
		if errors.Is(err, netpoll.ErrIdle) && r.hasBegun() {
			if err = r.reserveWait(); err == nil {
				l.socket.Wait()
			}
		}
		if n > 0 || err != nil {
			return n, r.noteReadError(err)
		}
	}
}

const (
	// waitCost is the cost, in bytes of Config.InboundBytes, of a goroutine that waits in the
	// middle of a message.
	waitCost = 16 << 10
	// inflateCost is its additional cost when messages are compressed: a framing.Inflater.
	inflateCost = 44 << 10
)

// costOfWait returns the cost of the goroutine that runs the link, while it waits.
func (r *reader) costOfWait() int64 {
	if r.inflates {
		return waitCost + inflateCost
	}
	return waitCost
}

// reserveWait takes the cost of waiting out of the budget, once for each message.
func (r *reader) reserveWait() error {
	if r.waited {
		return nil
	}
	if !r.reserveBudget(r.costOfWait()) {
		return outOfBudget()
	}
	r.waited = true
	return nil
}

// releaseWait gives back the reservation of reserveWait.
func (r *reader) releaseWait() {
	if r.waited {
		r.waited = false
		r.releaseBudget(r.costOfWait())
	}
}

// reserveBudget takes n bytes of the server's budget for the message that is being read. It returns
// false if the budget has none for this link.
func (r *reader) reserveBudget(n int64) bool {
	if r.claim == nil {
		r.claim = budget.NewClaim(r.link)
	}
	return r.link.server.inbound.ReserveBytes(r.claim, n)
}

// releaseBudget gives back n bytes that reserveBudget took. 0 does nothing.
func (r *reader) releaseBudget(n int64) {
	if n > 0 {
		r.link.server.inbound.ReleaseBytes(r.claim, n)
	}
}

var _ budget.Holder = (*link)(nil)

// ClientIdentity returns the client. See budget.Holder.
func (l *link) ClientIdentity() hub.Identity { return l.connection.Identity() }

// WakeReader makes the reader look at its claim. See budget.Holder.
func (l *link) WakeReader() { l.socket.StopReading() }

// outOfBudget returns the Violation of a link for which the budget has no room.
func outOfBudget() error { return &Violation{cause.Memory.CloseStatus()} }

// noteReadError notes the end of the socket's input. It turns a fault of the client into a
// Violation.
func (r *reader) noteReadError(err error) error {
	_, isViolation := errors.AsType[*Violation](err)
	switch {
	case err == nil, isViolation, errors.Is(err, netpoll.ErrIdle):
	case errors.Is(err, netpoll.ErrUnreadRecords):
		return &Violation{unreadRecords}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		r.link.readEnd = readGone
	case r.claim.IsRevoked():
		return outOfBudget()
	default:
		r.link.readEnd = readLate
	}
	return err
}

// Write takes a whole control frame: a pong, the answer to a close, or a close for a client's
// fault. It never blocks and never fails: a failed write ends the link in a different way.
func (w *wire) Write(b []byte) (int, error) {
	l := w.link
	l.socket.Lock()
	defer l.unlockAndPart()
	if frame.OpcodeOf(b[0]) != frame.Close {
		l.queueControlLocked(b)
		return len(b), nil
	}
	if !l.ending.startDraining() {
		return len(b), nil // a single close frame is enough
	}
	how := cause.CloseStatus{Cause: cause.Protocol}
	how.Code, how.Reason, _ = frame.ParseClose(b)
	// The reason may be the client's own, sent back (RFC 6455 §8.1).
	if !utf8.ValidString(how.Reason) {
		how = badReason
	}
	l.ending.ownCode = how.Code
	l.queueCloseLocked(how)
	return len(b), nil
}

// Close ends reading: coder/websocket reads no more. It wakes a Read, for which coder/websocket
// would wait forever. It leaves the socket open: coder/websocket's close frame may still have to be
// written.
func (w *wire) Close() error {
	if w.link != nil {
		w.link.socket.StopReading()
	}
	return nil
}

// LocalAddr returns nil. coder/websocket does not call it.
func (w *wire) LocalAddr() net.Addr { return nil }

// RemoteAddr returns nil. coder/websocket does not call it.
func (w *wire) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing: only the link sets deadlines.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
