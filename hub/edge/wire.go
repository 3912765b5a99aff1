package edge

import (
	"errors"
	"net"
	"os"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// wire is the link's net.Conn for coder/websocket, which reads frames from it and writes control
// frames to it. The link does not use coder/websocket's Write or Writer for data.
type wire link

var _ net.Conn = (*wire)(nil)

// Read reads the client's bytes. The goroutine that runs the link calls it. Between messages it
// returns netpoll.ErrIdle if there is no input. After this error coder/websocket can go on as if it
// had not happened (canary_test.go pins that). In the middle of a message it waits.
func (w *wire) Read(b []byte) (int, error) {
	l := (*link)(w)
	for {
		n, err := l.takeFrame(&l.socket, l.protocol.most, b)
		if errors.Is(err, netpoll.ErrIdle) && l.hasBegun() {
			if err = l.reserveWait(); err == nil {
				l.socket.Wait()
			}
		}
		if n > 0 || err != nil {
			return n, l.noteReadError(err)
		}
	}
}

const (
	// waitCost is the cost, in bytes of Config.InboundBytes, of a goroutine that waits in the
	// middle of a message.
	waitCost = 16 << 10
	// inflateCost is its additional cost when messages are compressed: coder/websocket's
	// decompressor.
	inflateCost = 44 << 10
)

// costOfWait returns the cost of the goroutine that runs the link, while it waits.
func (i *inbound) costOfWait() int64 {
	if i.compressed {
		return waitCost + inflateCost
	}
	return waitCost
}

// reserveWait takes the cost of waiting out of the budget, once for each message.
func (l *link) reserveWait() error {
	if l.waited {
		return nil
	}
	if !l.reserveBudget(l.costOfWait()) {
		return outOfBudget()
	}
	l.waited = true
	return nil
}

// releaseWait gives back what reserveWait took.
func (l *link) releaseWait() {
	if l.waited {
		l.waited = false
		l.releaseBudget(l.costOfWait())
	}
}

// noteReadError notes the end of the socket's input. It turns a fault of the client into a
// Violation.
func (l *link) noteReadError(err error) error {
	_, isViolation := errors.AsType[*Violation](err)
	switch {
	case err == nil, isViolation, errors.Is(err, netpoll.ErrIdle):
	case errors.Is(err, netpoll.ErrUnreadRecords):
		return &Violation{unreadRecords}
	case !errors.Is(err, os.ErrDeadlineExceeded):
		l.readEnd = readGone
	case l.claim.isRevoked():
		return outOfBudget()
	default:
		l.readEnd = readLate
	}
	return err
}

// Write takes a whole control frame: a pong, the answer to a close, or a close for a client's
// fault. It never blocks and never fails: a failed write ends the link in a different way.
func (w *wire) Write(b []byte) (int, error) {
	l := (*link)(w)
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
	// The reason has the same words as a close by a frame's header.
	if l.ending.ownCode = how.Code; how.Code == uint16(websocket.StatusMessageTooBig) {
		how.Reason = tooBig(l.protocol.most).Reason
	}
	l.queueCloseLocked(how)
	return len(b), nil
}

// Close ends reading: coder/websocket reads no more. It wakes a Read, for which coder/websocket
// would wait forever. It leaves the socket open: coder/websocket's close frame may still have to be
// written.
func (w *wire) Close() error {
	w.socket.StopReading()
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
