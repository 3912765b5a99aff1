package netpoll

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// TLSListener accepts TCP connections that speak TLS, and can be parked: *tls.Conn over Sealed.
type TLSListener struct {
	net.Listener

	config *tls.Config
}

// NewTLSListener returns a listener for the TCP connections of l. It does no handshake.
func NewTLSListener(l net.Listener, config *tls.Config) *TLSListener {
	return &TLSListener{Listener: l, config: config}
}

// Accept waits for the next connection.
func (l *TLSListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &Sealed{Conn: Conn{TCPConn: tcp}}
	}
	return tls.Server(conn, l.config), nil
}

// Sealed is the socket below crypto/tls. During the handshake and the request it is the connection
// itself. When its Socket is parked, it never waits: a Read without input returns a temporary
// error, and a Write keeps its bytes in memory until the Socket flushes them.
type Sealed struct {
	Conn

	divert func([]byte) (int, error) // reads in place of Conn; nil: Conn reads
	fd     int                       // the parked socket's descriptor; 0: not parked

	sending sync.Mutex
	out     *[]byte // records that the socket has not taken; nil: none
}

// DivertReads makes read do the reads of crypto/tls, for a handshake that waits for more than
// input. nil ends that. Only the goroutine that uses the connection may call it, before
// Socket.Open.
func (s *Sealed) DivertReads(read func(b []byte) (int, error)) { s.divert = read }

// sealedBuffers hold records on their way. A socket needs a single buffer.
var sealedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// recordPiece is how many bytes go into a record of TLS.
const recordPiece = 16 << 10

// sealedKept is the largest buffer, in bytes, that goes back into the pool: a recordPiece as a
// record, and the growth of append.
const sealedKept = 20 << 10

// errAgain is temporary in the sense of net.Error: crypto/tls goes on after it.
var errAgain net.Error = againError{}

type againError struct{}

func (againError) Error() string   { return "nothing to read now" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

// Read reads records.
func (s *Sealed) Read(b []byte) (int, error) {
	if s.divert != nil {
		return s.divert(b)
	}
	if s.fd == 0 {
		return s.Conn.Read(b)
	}
	n, blocked, err := readSocket(s.fd, b)
	if blocked {
		return 0, errAgain
	}
	return n, endOfFile(n, err)
}

// Write takes records.
func (s *Sealed) Write(b []byte) (int, error) {
	if s.fd == 0 {
		return s.Conn.Write(b)
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out == nil {
		s.out = sealedBuffers.Get().(*[]byte)
	}
	*s.out = append(*s.out, b...)
	return len(b), nil
}

// flushRecords writes waiting records. blocked means that the socket did not take all of them.
func (s *Sealed) flushRecords() (n int, blocked bool, err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	for s.out != nil {
		var more int
		more, blocked, err = writeSocket(uintptr(s.fd), *s.out)
		n += more
		if err != nil || blocked {
			return n, blocked, err
		}
		if *s.out = append((*s.out)[:0], (*s.out)[more:]...); len(*s.out) == 0 {
			s.recycleRecordsLocked()
		}
	}
	return n, false, nil
}

// unflushedSize returns how many bytes wait to be flushed.
func (s *Sealed) unflushedSize() int {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out == nil {
		return 0
	}
	return len(*s.out)
}

// dropRecords forgets the bytes that the socket has not taken.
func (s *Sealed) dropRecords() {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out != nil {
		s.recycleRecordsLocked()
	}
}

func (s *Sealed) recycleRecordsLocked() {
	if cap(*s.out) <= sealedKept {
		*s.out = (*s.out)[:0]
		sealedBuffers.Put(s.out)
	}
	s.out = nil
}
