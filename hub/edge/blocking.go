package edge

import (
	"crypto/tls"
	"net"
	"syscall"
	"time"

	"github.com/connhub/connhub/hub/edge/frame"
)

// blockingLookahead is the size in bytes of the buffer of coder/websocket's reader, for each link.
// It is small, because most links are silent most of the time. Longer messages are read past it.
const blockingLookahead = 512

// blocking is a socket with goroutines that wait. A goroutine of the link reads it. A second
// goroutine writes while the socket does not take all bytes at once.
type blocking struct {
	// Static.
	link *link
	conn net.Conn
	raw  syscall.RawConn // of conn; nil: a writer must do each write

	// Owned by the goroutine that runs the link.
	early []byte // bytes that came with the request; read first
	timed bool   // the deadline of MessageTimeout is set
	frameTracker

	// guarded by link.mu; closed when the writer has ended; nil: no writer was needed yet
	written chan struct{}
}

func newBlocking(l *link, conn net.Conn, early []byte) *blocking {
	return &blocking{link: l, conn: conn, raw: rawSocket(conn), early: early}
}

// unwrapSocket returns the socket below TLS, sealed and tcpConn. It returns conn itself if conn
// wraps no socket.
func unwrapSocket(conn net.Conn) net.Conn {
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

func (s *blocking) runLink() {
	s.link.server.goroutines.Go(func() {
		s.link.startServing()
		s.link.serveReadable()
	})
}

func (s *blocking) lookaheadSize() int { return blockingLookahead }

func (s *blocking) readInput(b []byte) (int, error) {
	l := s.link
	if len(s.early) > 0 {
		n := copy(b, s.early)
		if s.early = s.early[n:]; len(s.early) == 0 {
			s.early = nil
		}
		l.noteLife()
		return s.trackFrames(b[:n], l)
	}
	if s.refused != nil {
		return 0, s.refused
	}
	if l.inMessage && !s.timed {
		// Most messages are in the buffer whole when their header is read, and never get here.
		s.timed = true
		s.setReadDeadline(time.Now().Add(l.server.config.MessageTimeout))
	}
	// A revoked link stops here: the deadline that was to wake this read may be gone.
	if l.isRevoked() {
		return 0, outOfBudget()
	}
	n, err := s.conn.Read(b)
	if n > 0 {
		l.noteLife()
	}
	if err != nil {
		l.readErr = err
		return n, err
	}
	return s.trackFrames(b[:n], l)
}

// frameTracker finds the beginnings of frames in a client's bytes, in whatever pieces they come.
type frameTracker struct {
	limit frameLimit
	head  [frame.MaxMaskedHeader]byte // header of the current frame, as far as it has come
	has   int                         // bytes of head
	left  uint64                      // bytes of the current frame's payload that have not come
	// a Violation, reported once the bytes in front of it were read
	refused error
}

// trackFrames goes over bytes that were read. It returns how many of them stand in front of a
// forbidden frame. If none do, it returns the Violation.
func (f *frameTracker) trackFrames(b []byte, l *link) (int, error) {
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
		if f.refused = f.limit.admitFrame(header, l); f.refused != nil {
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

func (s *blocking) readableBytes() int { return 0 }

// showsLife implements socket.
func (s *blocking) showsLife() (yes bool) {
	tcp, ok := unwrapSocket(s.conn).(*net.TCPConn)
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

func (s *blocking) messageDone() {
	if s.timed {
		s.timed = false
		s.setReadDeadline(time.Time{})
	}
}

// setReadDeadline does nothing after coder/websocket has closed the wire, so it can't undo that
// close.
func (s *blocking) setReadDeadline(t time.Time) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if !s.link.readEnded {
		_ = s.conn.SetReadDeadline(t) // fails on a closed connection, as Read will
	}
}

func (s *blocking) wakeReader() { _ = s.conn.SetReadDeadline(past) }

// past is a deadline that is over. Setting it wakes a Read.
var past = time.Unix(1, 0)

func (s *blocking) discardInput() error {
	_ = s.conn.SetReadDeadline(time.Time{}) // wakeReader has set it
	m := messages.Get().(*message)
	defer m.recycleMessage()
	b := m.bytes[:cap(m.bytes)]
	for {
		if _, err := s.conn.Read(b); err != nil {
			return nil //nolint:nilerr // the end is what is waited for
		}
	}
}

func (s *blocking) tryWriteLocked(o *output) (bool, error) {
	if s.raw == nil {
		return false, nil
	}
	return o.tryWrite(s.raw)
}

// handOverLocked starts the writer. The server counts the goroutine that runs the link, so the
// count can't be zero here.
func (s *blocking) handOverLocked(o *output) {
	s.written = make(chan struct{})
	s.link.server.goroutines.Go(func() { s.writeLoop(o) })
}

// writeLoop is the writer. It runs while there are bytes that the socket does not take at once.
func (s *blocking) writeLoop(o *output) {
	l := s.link
	defer o.recycleOutput()
	for {
		l.server.metrics.async.Inc()
		err := o.writeBlocking(s.conn, s.raw)
		l.mu.Lock()
		if err != nil {
			l.markBrokenLocked()
		}
		if !l.nextOutputLocked(o) {
			l.writing = false
			close(s.written)
			l.unlockAndPart()
			return
		}
		l.mu.Unlock()
	}
}

func (s *blocking) prefetchState() {} // the descriptor is behind package net

func (s *blocking) halfClose() bool {
	half, ok := s.conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

func (s *blocking) hangUp() { _ = s.conn.Close() } // TLS says goodbye, for 5 s at most

func (s *blocking) abortSocket(reset bool) {
	conn := unwrapSocket(s.conn)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (s *blocking) closeSocket() {
	_ = s.conn.Close()
	s.link.mu.Lock()
	s.link.broken = true // no writer starts any more
	written := s.written
	s.link.mu.Unlock()
	if written != nil {
		<-written
	}
}
