package edge

import (
	"net"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
)

// wire is the link as coder/websocket sees it: the net.Conn that it reads frames from, and writes control
// frames to. Nobody uses its Write or Writer for data.
type wire link

var _ net.Conn = (*wire)(nil)

// Read is called by the goroutine that runs the link.
func (w *wire) Read(b []byte) (int, error) { return w.socket.read(b) }

// Write takes one whole control frame: a pong, the answer to a close, or a close for what the client did
// wrong. It never blocks and never fails: what can't be written ends the link in another way.
func (w *wire) Write(b []byte) (int, error) {
	l := (*link)(w)
	l.mu.Lock()
	defer l.unlock()
	if frame.OpcodeOf(b[0]) != frame.Close {
		l.controlLocked(b)
		return len(b), nil
	}
	if l.closing {
		return len(b), nil // one close frame is enough
	}
	l.closing = true
	how := cause.CloseStatus{Cause: cause.Protocol}
	how.Code, how.Reason, _ = frame.ParseClose(b)
	if !utf8.ValidString(how.Reason) { // the client's own, sent back; RFC 6455 §8.1
		how = badReason
	}
	if l.ownCode = how.Code; how.Code == uint16(websocket.StatusMessageTooBig) {
		how.Reason = tooBig(l.protocol.most).Reason // by the same words as where the header tells it
	}
	l.sayCloseLocked(how)
	return len(b), nil
}

// badReason is how a link ends whose client's close frame has a reason that is not text.
var badReason = cause.CloseStatus{
	Cause:  cause.InvalidText,
	Code:   cause.InvalidText.CloseStatus().Code,
	Reason: "close reason is not UTF-8",
}

// Close says that coder/websocket is through. It wakes a Read, for which coder/websocket would wait forever,
// and leaves the socket alone: its own close frame may still have to be written.
func (w *wire) Close() error {
	l := (*link)(w)
	l.mu.Lock()
	l.readEnded = true
	l.mu.Unlock()
	l.socket.wake()
	return nil
}

// LocalAddr returns nothing: nobody asks.
func (w *wire) LocalAddr() net.Addr { return nil }

// RemoteAddr returns nothing: nobody asks.
func (w *wire) RemoteAddr() net.Addr { return nil }

// SetDeadline does nothing: the link alone sets deadlines.
func (w *wire) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (w *wire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
