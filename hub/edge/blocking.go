package edge

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/connhub/connhub/hub/edge/frame"
)

// blockingLookahead is what coder/websocket's reader keeps for each link: small, because most links are silent most of the
// time. Longer messages are read past it.
const blockingLookahead = 512

// blocking is a socket that a goroutine of the link's own reads, and another one writes while it takes nothing at once.
type blocking struct {
	// Static.
	link *link
	conn net.Conn
	raw  syscall.RawConn // of conn; nil: it must be written to by a writer

	// Owned by the goroutine that runs the link.
	early []byte // came with the request; read first
	timed bool   // the deadline of MessageTimeout is set
	frames

	written chan struct{} // guarded by link.mu; closed when the writer has ended; nil: none was ever needed
}

func newBlocking(l *link, conn net.Conn, early []byte) *blocking {
	return &blocking{link: l, conn: conn, raw: rawSocket(conn), early: early}
}

// bare returns the connection below TLS.
func bare(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	switch c := conn.(type) {
	case *sealed:
		return c.TCPConn
	case *tcpConn:
		return c.TCPConn
	default:
		return conn
	}
}

func (s *blocking) run() {
	s.link.server.goroutines.Go(func() {
		s.link.begin()
		s.link.advance()
	})
}

func (s *blocking) lookahead() int { return blockingLookahead }

func (s *blocking) read(b []byte) (int, error) {
	l := s.link
	if len(s.early) > 0 {
		n := copy(b, s.early)
		if s.early = s.early[n:]; len(s.early) == 0 {
			s.early = nil
		}
		l.hear()
		return s.follow(b[:n], l)
	}
	if s.refused != nil {
		return 0, s.refused
	}
	if l.inMessage && !s.timed {
		// Most messages are in the buffer whole when their header is read, and never get here.
		s.timed = true
		s.setReadDeadline(time.Now().Add(l.server.config.MessageTimeout))
	}
	if l.isRevoked() { // and the deadline that was to wake this read may be gone
		return 0, outOfBudget()
	}
	n, err := s.conn.Read(b)
	if n > 0 {
		l.hear()
	}
	if err != nil {
		l.readErr = err
		return n, err
	}
	return s.follow(b[:n], l)
}

// frames finds where frames begin in what a client sends, wherever that is cut.
type frames struct {
	limit   frameLimit
	head    [frame.MaxMaskedHeader]byte // of a frame: what has come of its header
	has     int                         // bytes of head
	left    uint64                      // of a frame: what has not come of its payload
	refused error                       // a Violation, behind what was read before it
}

// follow goes over what was read. It returns how much of that is in front of a frame that the client may not send; where that is nothing,
// it returns the Violation.
func (f *frames) follow(b []byte, l *link) (int, error) {
	for rest := b; len(rest) > 0; {
		if f.left > 0 {
			n := min(f.left, uint64(len(rest)))
			f.left -= n
			rest = rest[n:]
			continue
		}
		before := f.has
		f.has += copy(f.head[before:], rest)
		header, whole := frame.ParseHeader(f.head[:f.has])
		if !whole {
			return len(b), nil
		}
		if f.refused = f.limit.admit(header, l); f.refused != nil {
			if good := len(b) - len(rest); good > 0 {
				return good, nil
			}
			return 0, f.refused
		}
		rest = rest[header.Start-before:]
		f.has, f.left = 0, header.Size-uint64(header.Start)
	}
	return len(b), nil
}

func (s *blocking) ready() int { return 0 }

func (s *blocking) stirs() (yes bool) {
	tcp, ok := bare(s.conn).(*net.TCPConn)
	if !ok {
		return false
	}
	s.link.mu.Lock()
	full := s.link.writing
	s.link.mu.Unlock()
	_ = controlSocket(tcp, func(fd int) { // fails on a closed connection
		readable, writable := pollSocket(fd)
		yes = readable || writable && full
	})
	return yes
}

func (s *blocking) rest() {
	if s.timed {
		s.timed = false
		s.setReadDeadline(time.Time{})
	}
}

// setReadDeadline does nothing once coder/websocket has closed the wire, so that it can't undo that.
func (s *blocking) setReadDeadline(t time.Time) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if !s.link.readEnded {
		_ = s.conn.SetReadDeadline(t) // fails on a closed connection, as Read will
	}
}

func (s *blocking) wake() { _ = s.conn.SetReadDeadline(past) }

// past is a deadline that is over.
var past = time.Unix(1, 0)

func (s *blocking) discard() error {
	_ = s.conn.SetReadDeadline(time.Time{}) // wake had set it
	m := messages.Get().(*message)
	defer m.free()
	b := m.bytes[:cap(m.bytes)]
	for {
		if _, err := s.conn.Read(b); err != nil {
			return nil //nolint:nilerr // the end is what is waited for
		}
	}
}

func (s *blocking) tryLocked(o *output) (bool, error) {
	if s.raw == nil {
		return false, nil
	}
	return o.try(s.raw)
}

// handOverLocked starts the writer. The goroutine that runs the link is counted, so the count can't be zero.
func (s *blocking) handOverLocked(o *output) {
	s.written = make(chan struct{})
	s.link.server.goroutines.Go(func() { s.write(o) })
}

// write is the writer: it runs while there is something to write that the socket does not take at once.
func (s *blocking) write(o *output) {
	l := s.link
	defer o.free()
	for {
		l.server.metrics.async.Inc()
		err := o.write(s.conn, s.raw)
		l.mu.Lock()
		if err != nil {
			l.breakLocked()
		}
		if !l.nextLocked(o) {
			l.writing = false
			close(s.written)
			l.unlock()
			return
		}
		l.mu.Unlock()
	}
}

func (s *blocking) prefetch() {} // the descriptor is behind package net

func (s *blocking) halfClose() bool {
	half, ok := s.conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

func (s *blocking) hangUp() { _ = s.conn.Close() } // under TLS with a goodbye, which takes 5 s at most

func (s *blocking) abort(reset bool) {
	conn := bare(s.conn)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (s *blocking) finish() {
	_ = s.conn.Close()
	s.link.mu.Lock()
	s.link.broken = true // no writer starts
	written := s.written
	s.link.mu.Unlock()
	if written != nil {
		<-written
	}
}
