package edge

import (
	"net"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
)

// wire is the link's net.Conn for coder/websocket, which reads frames from it and writes control
// frames to it. The link does not use coder/websocket's Write or Writer for data.
type wire link

var _ net.Conn = (*wire)(nil)

// Read reads the client's bytes. The goroutine that runs the link calls it.
func (w *wire) Read(b []byte) (int, error) { return w.socket.readInput(b) }

// Write takes a whole control frame: a pong, the answer to a close, or a close for a client's
// fault. It never blocks and never fails: a failed write ends the link in a different way.
func (w *wire) Write(b []byte) (int, error) {
	l := (*link)(w)
	l.mu.Lock()
	defer l.unlockAndPart()
	if frame.OpcodeOf(b[0]) != frame.Close {
		l.queueControlLocked(b)
		return len(b), nil
	}
	if l.closing {
		return len(b), nil // a single close frame is enough
	}
	l.closing = true
	how := cause.CloseStatus{Cause: cause.Protocol}
	how.Code, how.Reason, _ = frame.ParseClose(b)
	// The reason may be the client's own, sent back (RFC 6455 §8.1).
	if !utf8.ValidString(how.Reason) {
		how = badReason
	}
	// The reason has the same words as a close by a frame's header.
	if l.ownCode = how.Code; how.Code == uint16(websocket.StatusMessageTooBig) {
		how.Reason = tooBig(l.protocol.most).Reason
	}
	l.queueCloseLocked(how)
	return len(b), nil
}

// badReason closes a link whose client's close frame has a reason that is not UTF-8.
var badReason = cause.CloseStatus{
	Cause:  cause.InvalidText,
	Code:   cause.InvalidText.CloseStatus().Code,
	Reason: "close reason is not UTF-8",
}

// Close notes that coder/websocket reads no more. It wakes a Read, for which coder/websocket would
// wait forever. It leaves the socket open: coder/websocket's close frame may still have to be
// written.
func (w *wire) Close() error {
	l := (*link)(w)
	l.mu.Lock()
	l.readEnded = true
	l.mu.Unlock()
	l.socket.wakeReader()
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
