package edge

import (
	"compress/flate"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// inbound is what the goroutine that runs the link keeps.
type inbound struct {
	bound     bool   // to the connection
	over      bool   // no more messages are read
	inMessage bool   // the header of a message was read, its end was not
	readErr   error  // of the socket, the last one
	claim     *claim // of the server's budget; nil: the client has sent no large message yet
}

// begin is the start of a link, after the 101.
func (l *link) begin() {
	l.server.metrics.links.Inc()
	l.bound = l.bind() == nil
	if !l.bound {
		// Closed during the handshake, by a backend or because the hub leaves: the client is told why.
		how, ended := l.connection.Ended()
		if !ended { // a newer link of the client was faster
			how = cause.Lost.CloseStatus()
		}
		l.Close(how)
	}
	l.server.heartbeat.add(l)
}

// bind gives the connection its link, or the client its connection back.
func (l *link) bind() error {
	if l.resume != nil {
		defer func() { l.resume = nil }()
		return l.resume.Bind(l)
	}
	return l.connection.Bind(l)
}

// advance carries the link on as far as there is something to read, and reports whether it has ended: then nothing of it is
// left. The read loop comes first; when the link is over for us, the socket's end is waited for.
func (l *link) advance() bool {
	if !l.over {
		err := l.readLoop()
		if errors.Is(err, errParked) {
			return false
		}
		l.depart(err)
	}
	if l.socket.discard() != nil {
		return false
	}
	l.end()
	return true
}

// depart ends the link for us: nothing is read any more.
func (l *link) depart(err error) {
	l.over = true
	how := l.part(err)
	if l.bound && !how.Cause.Resumable() {
		l.connection.Close(how) // from here on nothing is sent to it
	}
	_ = l.ws.CloseNow() // or its finalizer would keep it; after this it touches the wire no more
}

// end lets go of what is left.
func (l *link) end() {
	l.socket.finish()
	l.mu.Lock()
	how := l.how
	if l.limit != nil {
		l.limit.Stop()
	}
	l.mu.Unlock()
	if l.bound {
		l.connection.Unbind(l, how) // now it is known what the socket took
	}
	l.server.heartbeat.remove(l)
	l.server.metrics.links.Dec()
	l.server.releaseLink()
}

// readLoop hands messages to the protocol until the link ends, and says why.
func (l *link) readLoop() error {
	for {
		// A context that can't be cancelled: others cost a timer for each read.
		kind, r, err := l.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if err := l.receive(payloadKind(kind), r); err != nil {
			return err
		}
	}
}

func payloadKind(t websocket.MessageType) hub.PayloadKind {
	if t == websocket.MessageText {
		return hub.Text
	}
	return hub.Binary
}

// receive reads one message and hands it on, unless the link is closing: then it only waits for the
// client's close frame.
func (l *link) receive(kind hub.PayloadKind, r io.Reader) (err error) {
	m := messages.Get().(*message)
	defer func() {
		l.release(m.held)
		m.free()
	}()

	l.inMessage = true
	err = m.read(kind, r, l)
	l.inMessage = false
	if l.claim != nil && !l.server.inbound.end(l.claim) {
		err = outOfBudget()
	}
	l.socket.rest()
	if err != nil || l.isClosing() || !l.connection.Turn(l) {
		return err
	}
	defer l.connection.EndTurn()
	defer func() {
		if p := recover(); p != nil {
			l.server.config.Logger.Error("protocol panicked",
				slog.String("protocol", l.protocol.Name()), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			err = &Violation{cause.Internal.CloseStatus()}
		}
	}()
	return l.failed(l.protocol.receive(l.connection, kind, m.bytes))
}

// failed turns an error of a protocol into what ends the link.
func (l *link) failed(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Violation](err); ok {
		return err
	}
	if errors.Is(err, hub.ErrClosed) || errors.Is(err, hub.ErrShuttingDown) { // its end is on the way
		return nil
	}
	l.server.config.Logger.Error("protocol failed",
		slog.String("protocol", l.protocol.Name()), slog.Any("error", err))
	return &Violation{cause.Internal.CloseStatus()}
}

// piece is how many bytes of a message to ask coder/websocket for: no more than can be read without waiting, for it fills what it
// is given. What is compressed comes as it is unpacked.
func (l *link) piece() int {
	if l.compressed {
		return eagerPiece
	}
	return l.buffered.Buffered() + l.socket.ready()
}

func (l *link) isClosing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing || l.decided
}

// part decides how the link ended, says so to the client if that is still to be done, and returns it.
func (l *link) part(err error) cause.CloseStatus {
	l.mu.Lock()
	defer l.unlock()
	how, there := l.decideLocked(err)
	l.how, l.decided = how, true
	l.parting = partHangUp
	if there {
		l.parting = partLinger
	}
	l.limitLocked()
	if !l.closing && there {
		l.closing = true
		l.pending = l.appendGoodbye(l.pending, how)
		l.sayCloseLocked(how)
	}
	l.closing = true
	return how
}

// decideLocked finds the one reason why the link ended, and whether the client may still be there, sending.
func (l *link) decideLocked(err error) (how cause.CloseStatus, there bool) {
	closed, byClient := errors.AsType[websocket.CloseError](err)
	late := errors.Is(l.readErr, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
	gone := l.readErr != nil && !late
	there = !byClient && !gone

	violation, isViolation := errors.AsType[*Violation](err)
	switch {
	case l.decided:
		return l.how, there
	case isViolation:
		return violation.Close, there
	case byClient && !utf8.ValidString(closed.Reason):
		return badReason, there
	case byClient:
		return cause.CloseStatus{Cause: cause.Client, Code: uint16(closed.Code), Reason: closed.Reason}, there
	case l.ownCode != 0:
		return l.closeOf(l.ownCode), there
	case late && l.vanished():
		return cause.Lost.CloseStatus(), false
	case late:
		return cause.SlowMessage.CloseStatus(), there
	case gone, l.broken:
		return cause.Lost.CloseStatus(), false
	default:
		return breach(err), there
	}
}

// breach is the close for what coder/websocket gives up on without a word: a frame without a mask, a length below zero, a message that
// it can't inflate.
func breach(err error) cause.CloseStatus {
	if _, corrupt := errors.AsType[flate.CorruptInputError](err); corrupt {
		return notInflated
	}
	return cause.Protocol.CloseStatus()
}

// vanished reports whether a client that did not end its message may have lost its network in the middle of it, and come back: one that can,
// and of which nothing was heard since.
func (l *link) vanished() bool {
	_, resumable := l.protocol.Protocol.(hub.Numbered)
	silent := l.server.now() - time.Duration(l.heard.Load())
	return resumable && silent >= l.server.config.MessageTimeout/2
}

// closeOf is the close whose code coder/websocket chose for what a client did.
func (l *link) closeOf(code uint16) cause.CloseStatus {
	switch websocket.StatusCode(code) {
	case websocket.StatusMessageTooBig:
		return tooBig(l.protocol.most)
	case websocket.StatusInvalidFramePayloadData:
		return cause.InvalidText.CloseStatus()
	default:
		return cause.Protocol.CloseStatus()
	}
}

const (
	// messageBuffer is what a pooled message starts with; it grows as bytes come in, never by what a
	// header announces.
	messageBuffer = 4 << 10
	// messageKept is the largest buffer that goes back into the pool.
	messageKept = 64 << 10
	// eagerText is how much of a text message is checked byte by byte as it arrives. Beyond it a read
	// waits for a piece of eagerPiece, to save system calls.
	eagerText  = 4 << 10
	eagerPiece = 16 << 10
)

// message is a message of a client while it comes in. What it needs beyond messageBuffer comes out of the
// budget of all messages under way: clients that never end theirs can't fill the hub's memory with them, and
// small messages pass all the same.
type message struct {
	bytes []byte
	held  int64 // of the budget; the reader gives it back
}

// origin is where a message comes from: a link.
type origin interface {
	// piece is how many bytes to read at a time, as long as the message is small.
	piece() int
	// reserve takes bytes out of the budget of all messages, and reports false when there are none for this one.
	reserve(n int64) bool
}

var messages = sync.Pool{New: func() any { return &message{bytes: make([]byte, 0, messageBuffer)} }}

func (m *message) free() {
	m.held = 0
	if cap(m.bytes) > messageKept {
		return
	}
	m.bytes = m.bytes[:0]
	messages.Put(m)
}

// read reads a message to its end. Text is checked on the way: the first byte that can't be UTF-8 ends it
// with a Violation (RFC 6455 §8.1).
func (m *message) read(kind hub.PayloadKind, r io.Reader, from origin) error {
	if m.bytes = m.bytes[:0]; !m.grow(from) { // the pool's buffer is too large for what the budget has
		m.bytes = make([]byte, 0, messageBuffer)
	}
	checked := 0 // of bytes, whole characters
	for {
		if !m.grow(from) {
			return outOfBudget()
		}
		room := m.bytes[len(m.bytes):cap(m.bytes)]
		if kind == hub.Text {
			piece := max(1, from.piece())
			if len(m.bytes) >= eagerText {
				piece = eagerPiece
			}
			room = room[:min(len(room), piece)]
		}
		n, err := r.Read(room)
		m.bytes = m.bytes[:len(m.bytes)+n]
		if kind == hub.Text {
			whole, ok := validPrefix(m.bytes[checked:])
			checked += whole
			if !ok || errors.Is(err, io.EOF) && checked != len(m.bytes) {
				return &Violation{cause.InvalidText.CloseStatus()}
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read message: %w", err)
		}
	}
}

// grow makes room for at least one more byte, and reports false when the budget has none.
func (m *message) grow(from origin) bool {
	if len(m.bytes) == cap(m.bytes) {
		m.bytes = append(m.bytes, 0)[:len(m.bytes)]
	}
	more := int64(cap(m.bytes)) - messageBuffer - m.held
	if more <= 0 {
		return true
	}
	if !from.reserve(more) {
		return false
	}
	m.held += more
	return true
}

// validPrefix returns how many bytes at the start of p are whole characters, if all the rest may be the
// beginning of one more; otherwise it reports false.
func validPrefix(p []byte) (int, bool) {
	n := len(p)
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if tail := p[len(p)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				n -= back
			}
			break
		}
	}
	return n, utf8.Valid(p[:n])
}
