package netpoll

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// blockingBuffer is the size in bytes of the buffer of each blocking socket. It is small,
	// because most clients are silent most of the time. Longer messages are read past it.
	blockingBuffer = 512
	// discardBuffer is how many bytes a blocking socket discards at a time.
	discardBuffer = 4 << 10
	// blockedWrite is the least duration of a write that had to wait for the client to read. An
	// idle kernel takes microseconds.
	blockedWrite = 5 * time.Millisecond
)

// blocking is a socket with goroutines that wait. A goroutine runs the owner, and reads. A second
// goroutine, the writer, waits for room while the socket does not take all bytes at once. Where
// conn has no raw socket, the writer does each write.
type blocking struct {
	// Static.
	socket *Socket
	owner  Owner
	poller *Poller
	conn   net.Conn
	raw    syscall.RawConn // of conn; nil: the writer must do each write

	timed   bool        // the deadline of MessageTimeout is set; owned by the reading goroutine
	stopped atomic.Bool // StopReading was called

	// Guarded by socket.mu.
	full    bool   // conn took no more at the last write
	closed  bool   // no writer starts any more
	next    []byte // the bytes that wait for room; nil: none
	sent    int    // of the bytes that wait, by the writer, and not reported; only without raw
	failure error  // of the writer's last write; only without raw
	// closed when the writer has ended; nil: no writer runs
	written chan struct{}
}

func newBlocking(p *Poller, s *Socket, o Owner, conn net.Conn, early []byte) *blocking {
	s.in = &input{bytes: make([]byte, max(blockingBuffer, len(early)))}
	s.in.w = copy(s.in.bytes, early)
	return &blocking{socket: s, owner: o, poller: p, conn: conn, raw: rawSocket(conn)}
}

func (s *blocking) startOwner(first func()) {
	s.poller.config.Goroutines.Go(func() {
		first()
		for !s.owner.ServeReadable() {
		}
	})
}

func (s *blocking) fillBuffer(begun bool) error {
	in := s.socket.in
	if err := in.compactBuffer(); err != nil {
		return err
	}
	n, err := s.readConn(in.bytes[in.w:], begun || in.w > in.r)
	in.w += n
	return err
}

func (s *blocking) readPast(b []byte) (int, error) {
	if len(b) < len(s.socket.in.bytes) {
		return 0, s.fillBuffer(true)
	}
	return s.readConn(b, true)
}

// readConn reads once. If a message has begun, that must be before MessageTimeout.
func (s *blocking) readConn(b []byte, begun bool) (int, error) {
	if begun && !s.timed {
		// Most messages are in the buffer whole when their beginning is read, and never get here.
		s.timed = true
		s.setReadDeadline(time.Now().Add(s.poller.config.MessageTimeout))
	}
	if s.stopped.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := s.conn.Read(b)
	if n > 0 {
		s.socket.NoteLife(s.poller.sinceStart())
		return n, nil // the next read finds the error again
	}
	return 0, err //nolint:wrapcheck // is the socket
}

func (s *blocking) waitForInput() {} // fillBuffer waits

func (s *blocking) endMessage() {
	if s.timed {
		s.timed = false
		s.setReadDeadline(time.Time{})
	}
}

// setReadDeadline can't undo a stopReading.
func (s *blocking) setReadDeadline(t time.Time) {
	_ = s.conn.SetReadDeadline(t) // fails on a closed connection, as Read will
	if s.stopped.Load() {
		_ = s.conn.SetReadDeadline(past)
	}
}

func (s *blocking) stopReading() {
	s.stopped.Store(true)
	_ = s.conn.SetReadDeadline(past)
}

// past is a deadline that is over. Setting it wakes a Read.
var past = time.Unix(1, 0)

func (s *blocking) discardInput() error {
	_ = s.conn.SetReadDeadline(time.Time{}) // stopReading has set it
	b := make([]byte, discardBuffer)
	for {
		if _, err := s.conn.Read(b); err != nil {
			return nil //nolint:nilerr // the loop waits for the end
		}
	}
}

func (s *blocking) showsLife() (yes bool) {
	tcp, ok := Unwrap(s.conn).(*net.TCPConn)
	if !ok {
		return false
	}
	s.socket.mu.Lock()
	writing := s.written != nil
	s.socket.mu.Unlock()
	_ = controlSocket(tcp, func(fd int) { // fails on a closed connection
		readable, writable := pollSocket(fd)
		yes = readable || writable && writing
	})
	return yes
}

func (s *blocking) prefetchState() {} // the descriptor is behind package net

func (s *blocking) tryWriteLocked(b []byte) (int, error) {
	if s.raw == nil {
		n, err := s.sent, s.failure
		s.sent = 0
		return n, err
	}
	waited := s.full
	n, blocked, err := writeRaw(s.raw, b)
	s.full = blocked
	if n > 0 && waited { // progress on a socket that was full: the client has read
		s.socket.NoteLife(s.poller.sinceStart())
	}
	return n, err
}

// awaitRoomLocked gives b to the writer, and starts the writer if none runs. The owner has not
// ended, so the count of goroutines is not zero.
func (s *blocking) awaitRoomLocked(b []byte) {
	if s.closed {
		return
	}
	s.next = b
	if s.written == nil {
		s.written = make(chan struct{})
		s.poller.config.Goroutines.Go(s.writeLoop)
	}
}

// writeLoop is the writer. It runs while there are bytes that the socket does not take at once.
func (s *blocking) writeLoop() {
	for {
		b := s.takeNext()
		if b == nil {
			return
		}
		if s.raw != nil {
			_ = s.raw.Write(hasRoom) // fails on a closed connection, as ServeWritable will
		} else {
			s.writePiece(b)
		}
		s.owner.ServeWritable()
	}
}

// takeNext returns the bytes that wait for room. If there are none, the writer has ended.
func (s *blocking) takeNext() []byte {
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	b := s.next
	if s.next = nil; b == nil {
		close(s.written)
		s.written = nil
	}
	return b
}

// writePiece writes a piece of b, however long it takes.
func (s *blocking) writePiece(b []byte) {
	began := time.Now()
	n, err := s.conn.Write(b[:min(len(b), recordPiece)])
	if n > 0 && time.Since(began) >= blockedWrite {
		s.socket.NoteLife(s.poller.sinceStart())
	}
	s.socket.mu.Lock()
	defer s.socket.mu.Unlock()
	s.sent, s.failure = n, err
}

func (s *blocking) halfClose() bool {
	half, ok := s.conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

func (s *blocking) hangUp() { _ = s.conn.Close() } // TLS says goodbye, for 5 s at most

func (s *blocking) abortSocket(reset bool) {
	conn := Unwrap(s.conn)
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (s *blocking) closeSocket() {
	_ = s.conn.Close()
	s.socket.mu.Lock()
	s.closed = true
	written := s.written
	s.socket.mu.Unlock()
	if written != nil {
		<-written
	}
}
