package edge

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// reprieve is how much longer a client has if its input lay unread in its socket when a deadline
// passed: then the hub was late, not the client. Each deadline is put off at most once, so a client
// that never stops sending gains no more.
const reprieve = 2 * time.Second

// tcpConn is a client's socket, for net/http, crypto/tls and a link with a goroutine of its own.
//
// Problem: a process that was stopped, or a machine that is overloaded, finds deadlines over that
// its clients have kept. Package net reports them without a look at the socket.
//
// Outline: a Read whose deadline is over returns the arrived bytes, and puts the deadline off by
// reprieve, once. A deadline that was already over when it was set is a wake-up and no limit. Read
// reports it at once.
type tcpConn struct {
	*net.TCPConn

	mu    sync.Mutex
	spent bool      // the read deadline can't be put off (again)
	write time.Time // the write deadline; zero: none
}

// SetDeadline sets both deadlines.
func (c *tcpConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of reads.
func (c *tcpConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spent = !t.After(time.Now())
	return c.TCPConn.SetReadDeadline(t) //nolint:wrapcheck // is the socket
}

// SetWriteDeadline sets the deadline of writes.
func (c *tcpConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = t
	return c.TCPConn.SetWriteDeadline(t) //nolint:wrapcheck // is the socket
}

// Read reads the client's bytes.
func (c *tcpConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err //nolint:wrapcheck // is the socket
	}
	return c.readOverdue(b, err)
}

// readOverdue reads the bytes that had arrived when the deadline passed.
func (c *tcpConn) readOverdue(b []byte, late error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spent {
		return 0, late
	}
	var n int
	var blocked bool
	var err error
	if controlSocket(c.TCPConn, func(fd int) { n, blocked, err = readSocket(fd, b) }) != nil ||
		blocked {
		return 0, late
	}
	c.spent = true
	until := time.Now().Add(reprieve)
	_ = c.TCPConn.SetReadDeadline(until) // fails on a closed connection, as the next Read will
	if !c.write.IsZero() && c.write.Before(until) {
		_ = c.TCPConn.SetWriteDeadline(until)
	}
	return n, endOfFile(n, err)
}

// controlSocket calls do with the descriptor of a socket, unless the socket is closed.
func controlSocket(tcp *net.TCPConn, do func(fd int)) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := raw.Control(func(fd uintptr) { do(int(fd)) }); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// tcpListener turns the TCP connections that it accepts into tcpConns. It leaves connections of any
// further type, like TLS, as they are.
type tcpListener struct{ net.Listener }

// Accept waits for the next connection.
func (l tcpListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		return &tcpConn{TCPConn: tcp}, nil
	}
	return conn, err //nolint:wrapcheck // net/http looks at it
}
