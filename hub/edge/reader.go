package edge

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/budget"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// reader reads the messages of a link. The goroutine that runs the link owns it.
//
// Problem: coder/websocket takes 1.8 KB for a connection. Most links are silent.
//
// Outline: between two messages coder/websocket knows nothing of the connection that it reads
// (canary_test.go pins that). So a link has a reader only while a goroutine runs it, and the next
// link gets the same reader from a readerPool.
type reader struct {
	// Static after newReader.
	ws       *websocket.Conn
	buffered *bufio.Reader // ws reads from it; it reads from wire

	link *link // that it reads; nil: none

	inbound
}

// inbound is how far the input was taken.
type inbound struct {
	inflates bool // permessage-deflate is agreed to; static while the reader has its link

	claim *budget.Claim // of the server's budget; nil: no large message came yet

	size         uint64 // bytes that are missing of the frame that is being given out
	messageBytes uint64 // of payload in the frames of the message so far
	fragmented   bool   // a message has begun, and its last frame has not
	deflated     bool   // the message is compressed
	waited       bool   // the claim has costOfWait, because the goroutine waits for this message

	control   bool          // a control frame came
	controlAt time.Duration // Server.sinceStart before coder/websocket had the first of them
}

// lifecycle is how far the goroutine that runs the link has come.
type lifecycle struct {
	compressed bool    // permessage-deflate is agreed to; static before upgradeRequest
	bound      bool    // the connection has the link
	over       bool    // no more messages are read
	readEnd    readEnd // how the socket's input ended
}

// readEnd is how the input of a socket ended. 0: it has not.
type readEnd uint8

const (
	// readLate: a deadline was over.
	readLate readEnd = iota + 1
	// readGone: the socket is gone.
	readGone
)

// startServing binds the link after the 101, and starts its heartbeat. back is that of a client
// that comes back, or nil.
func (l *link) startServing(back *hub.Resume) {
	l.server.metrics.links.Inc()
	err := l.bindConnection(back)
	l.bound = err == nil
	if fault, ok := errors.AsType[*Violation](err); ok {
		l.connection.Close(fault.Close) // it has no link that would
	}
	if !l.bound {
		// A backend closed the connection during the handshake, or the hub shuts down. The client
		// learns the reason.
		how, ended := l.connection.Ended()
		if !ended { // a newer link of the client was faster
			how = cause.Lost.CloseStatus()
		}
		l.Close(how)
	}
	l.server.wheel.Add(l, &l.beat.place,
		l.beat.beforeExpiry(l.server.sinceStart()+l.server.config.PingInterval))
}

// bindConnection gives the connection its link, or a returning client its connection.
func (l *link) bindConnection(back *hub.Resume) (err error) {
	defer l.recoverFault(&err)
	if back != nil {
		return back.Bind(l)
	}
	return l.connection.Bind(l)
}

// ServeReadable reads messages as long as there is input. It reports whether the link has ended and
// is released. The read loop comes first. When that is over, ServeReadable waits for the socket's
// end. See netpoll.Owner.
func (l *link) ServeReadable() bool {
	if !l.over {
		r := l.server.readers.lendReader(l)
		err := r.readLoop()
		if errors.Is(err, netpoll.ErrIdle) {
			l.server.readers.takeBack(r)
			return false
		}
		l.stopReading(err)
		r.discard()
	}
	if l.socket.Discard() != nil {
		return false
	}
	l.releaseLink()
	return true
}

// stopReading ends reading, and decides how the link ended.
func (l *link) stopReading(err error) {
	l.over = true
	how := l.decideClose(err)
	if l.bound && !how.Cause.Resumable() {
		l.connection.Close(how) // from here on nothing is sent to it
	}
}

// releaseLink closes the socket, unbinds the connection and gives all resources back.
func (l *link) releaseLink() {
	l.socket.Lock()
	l.ending.broken = true // nothing is written any more
	l.socket.Unlock()
	l.socket.Close()
	l.socket.Lock()
	if l.left != nil {
		l.left.recycleOutput()
		l.left = nil
	}
	how := *l.ending.how
	if l.ending.limit != nil {
		l.ending.limit.Stop()
	}
	l.socket.Unlock()
	if l.bound {
		l.connection.Unbind(l, how) // after Close it is known which bytes the socket took
	}
	l.server.wheel.Remove(&l.beat.place)
	l.server.metrics.links.Dec()
	l.server.releaseLinkSlot()
}

// readLoop hands messages to the protocol until the link ends, and returns the reason.
func (r *reader) readLoop() error {
	for {
		// A context that can't be cancelled, because coder/websocket needs a timer for each read
		// with any different context.
		kind, from, err := r.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if err := r.handleMessage(payloadKind(kind), from); err != nil {
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

// handleMessage reads a message and hands it to the protocol. If the link is closing, it drops the
// message: then the link only waits for the client's close frame.
func (r *reader) handleMessage(kind hub.PayloadKind, from io.Reader) (err error) {
	l := r.link
	m := messages.Get().(*message)
	defer func() {
		r.releaseBudget(m.held)
		m.recycleMessage()
	}()

	err = r.readPayload(m, kind, from)
	if r.claim != nil && !l.server.inbound.EndMessage(r.claim) {
		err = outOfBudget()
	}
	r.releaseWait()
	if err != nil || l.isClosing() || !l.connection.Turn(l) {
		return err
	}
	defer l.connection.EndTurn()
	defer l.recoverFault(&err)
	return l.endingError(l.protocol.receiveMessage(l.connection, kind, m.bytes))
}

// recoverFault turns a panic of the protocol into an error. It must be deferred.
func (l *link) recoverFault(err *error) {
	if p := recover(); p != nil {
		l.server.config.Logger.Error("protocol panicked",
			slog.String("protocol", l.protocol.Name()), slog.Any("panic", p),
			slog.String("stack", string(debug.Stack())))
		*err = &Violation{cause.Internal.CloseStatus()}
	}
}

// readPayload reads a message to its end, and inflates it if it is compressed.
func (r *reader) readPayload(m *message, kind hub.PayloadKind, from io.Reader) error {
	if !r.deflated {
		return m.readToEnd(kind, from, r)
	}
	most := r.link.protocol.most
	inflater := framing.Inflate(from, most)
	defer inflater.Recycle() // before the protocol has the message: it may take its time
	err := m.readToEnd(kind, inflater, r)
	if errors.Is(err, framing.ErrInflatedTooBig) {
		return &Violation{tooBig(most)}
	}
	return err
}

// endingError turns an error of a protocol into the error that ends the link, or nil.
func (l *link) endingError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Violation](err); ok {
		return err
	}
	if errors.Is(err, hub.ErrClosed) || errors.Is(err, hub.ErrShuttingDown) {
		return nil
	}
	l.server.config.Logger.Error("protocol failed",
		slog.String("protocol", l.protocol.Name()), slog.Any("error", err))
	return &Violation{cause.Internal.CloseStatus()}
}

// nextReadSize returns how many bytes of a message to ask coder/websocket for. It fills the buffer
// that it is given, so the link asks for no more than can be read without waiting. A compressed
// message comes as it is inflated.
func (r *reader) nextReadSize() int {
	if r.inflates {
		return eagerPiece
	}
	return r.buffered.Buffered() + int(min(uint64(len(r.link.socket.Buffered())), r.size))
}

const (
	// messageBuffer is the first size in bytes of a pooled message. It grows as bytes come in,
	// never by the length in a header.
	messageBuffer = 4 << 10
	// messageKept is the largest buffer, in bytes, that goes back into the pool.
	messageKept = 64 << 10
	// eagerText is how many bytes of a text message are checked byte by byte as they arrive. Beyond
	// it a read waits for eagerPiece bytes, to save system calls.
	eagerText  = 4 << 10
	eagerPiece = 16 << 10
)

// message is a client's message while it comes in. Bytes beyond messageBuffer come out of the
// budget of all incoming messages. So clients that never end their messages can't fill the hub's
// memory, and small messages always pass.
type message struct {
	bytes []byte
	held  int64 // of the budget; the reader gives it back
}

// messageSource is where a message comes from: a reader.
type messageSource interface {
	// nextReadSize returns how many bytes to read at a time while the message is small.
	nextReadSize() int
	// reserveBudget takes n bytes out of the budget of all messages. It returns false if there are
	// none for this message.
	reserveBudget(n int64) bool
}

var messages = sync.Pool{New: func() any { return &message{bytes: make([]byte, 0, messageBuffer)} }}

func (m *message) recycleMessage() {
	m.held = 0
	if cap(m.bytes) > messageKept {
		return
	}
	m.bytes = m.bytes[:0]
	messages.Put(m)
}

// readToEnd reads a message to its end. It checks text as it comes: the first byte that can't be
// UTF-8 ends the message with a Violation (RFC 6455 §8.1).
func (m *message) readToEnd(kind hub.PayloadKind, r io.Reader, from messageSource) error {
	if m.bytes = m.bytes[:0]; !m.growBuffer(from) {
		m.bytes = make([]byte, 0, messageBuffer)
	}
	checked := 0 // of bytes, whole characters
	for {
		if !m.growBuffer(from) {
			return outOfBudget()
		}
		room := m.bytes[len(m.bytes):cap(m.bytes)]
		if kind == hub.Text {
			piece := max(1, from.nextReadSize())
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

// growBuffer makes room for at least a further byte. It returns false if the budget has none.
func (m *message) growBuffer(from messageSource) bool {
	if len(m.bytes) == cap(m.bytes) {
		m.bytes = append(m.bytes, 0)[:len(m.bytes)]
	}
	more := int64(cap(m.bytes)) - messageBuffer - m.held
	if more <= 0 {
		return true
	}
	if !from.reserveBudget(more) {
		return false
	}
	m.held += more
	return true
}

// validPrefix returns how many bytes at the start of p are whole characters. It returns false if
// the remaining bytes can't begin a character.
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
