package edge

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// NewTLSListener returns a listener for Server.Serve whose connections speak TLS. Their handshakes
// can wait in line, and their links can be parked.
func NewTLSListener(l net.Listener, config *tls.Config) net.Listener {
	return &sealedListener{Listener: l, config: config}
}

type sealedListener struct {
	net.Listener

	config *tls.Config
}

func (l *sealedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, fmt.Errorf("accept: %w", err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &sealed{tcpConn: tcpConn{TCPConn: tcp}}
	}
	return tls.Server(conn, l.config), nil
}

// sealed is the socket below crypto/tls. During the handshake and the request it is the socket
// itself. When its link is parked, it never waits: a Read without input returns errAgain, and a
// Write keeps its bytes in memory until the link flushes them.
type sealed struct {
	tcpConn

	turn *handshakeTurn // of the handshake; nil: it is over
	fd   int            // the parked link's descriptor; 0: not parked yet

	sending sync.Mutex
	out     *[]byte // records that the socket has not taken; nil: none
}

// sealedBuffers hold records on their way. A link needs a single buffer.
var sealedBuffers = sync.Pool{New: func() any { return new([]byte) }}

// sealedKept is the largest buffer, in bytes, that goes back into the pool: a writePiece as a
// record, and the growth of append.
const sealedKept = 20 << 10

// errAgain is temporary in the sense of net.Error: crypto/tls goes on after it.
var errAgain net.Error = againError{}

type againError struct{}

func (againError) Error() string   { return "nothing to read now" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

func (s *sealed) Read(b []byte) (int, error) {
	if s.turn != nil {
		return s.turn.readClient(b)
	}
	if s.fd == 0 {
		return s.tcpConn.Read(b)
	}
	n, blocked, err := readSocket(s.fd, b)
	if blocked {
		return 0, errAgain
	}
	return n, endOfFile(n, err)
}

func (s *sealed) Write(b []byte) (int, error) {
	if s.fd == 0 {
		return s.TCPConn.Write(b) //nolint:wrapcheck // is the socket
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
func (s *sealed) flushRecords() (n int, blocked bool, err error) {
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
func (s *sealed) unflushedSize() int {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out == nil {
		return 0
	}
	return len(*s.out)
}

// dropRecords forgets the bytes that the socket has not taken.
func (s *sealed) dropRecords() {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.out != nil {
		s.recycleRecordsLocked()
	}
}

func (s *sealed) recycleRecordsLocked() {
	if cap(*s.out) <= sealedKept {
		*s.out = (*s.out)[:0]
		sealedBuffers.Put(s.out)
	}
	s.out = nil
}
