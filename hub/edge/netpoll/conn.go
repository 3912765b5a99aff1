package netpoll

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// Conn is a client's TCP connection before Socket.Open, and for a blocking Socket.
//
// Problem: a process that was stopped, or a machine that is overloaded, finds deadlines over that
// its clients have kept. Package net reports them without a look at the socket.
//
// Outline: a Read whose deadline is over returns the arrived bytes. A Write whose deadline is over
// gives the socket the bytes for which there is room. Both put their deadline off by Reprieve,
// once. A process may be stopped between the choice of a deadline and SetDeadline, so that counts
// also for a deadline that was over when it was set. A deadline from before the start of the
// process, like the one with which net/http wakes its readers, is a wake-up and no limit: Read and
// Write report it at once.
type Conn struct {
	*net.TCPConn

	mu    sync.Mutex
	read  deadline
	write deadline
}

// deadline is the limit of reads, or of writes.
type deadline struct {
	at    time.Duration // since processStarted; below 0: a wake-up; 0: none
	spent bool          // it can't be put off (again)
}

// processStarted is the zero of deadlines. It is earlier than every limit.
var processStarted = time.Now()

// setLimit sets the deadline. A deadline that was put off stays spent if it is set again, or to an
// earlier time.
func (d *deadline) setLimit(t time.Time) {
	var at time.Duration
	if !t.IsZero() {
		at = t.Sub(processStarted)
	}
	d.spent = at < 0 || d.spent && 0 < at && at <= d.at
	d.at = at
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.setLimit(t)
	return c.TCPConn.SetReadDeadline(t) //nolint:wrapcheck // is the socket
}

// SetWriteDeadline sets the deadline of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write.setLimit(t)
	return c.TCPConn.SetWriteDeadline(t) //nolint:wrapcheck // is the socket
}

// Read reads the client's bytes.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err //nolint:wrapcheck // is the socket
	}
	return c.readOverdue(b, err)
}

// readOverdue reads the bytes that had arrived when the deadline passed.
func (c *Conn) readOverdue(b []byte, late error) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read.spent {
		return 0, late
	}
	var n int
	var blocked bool
	var err error
	if controlSocket(c.TCPConn, func(fd int) { n, blocked, err = readSocket(fd, b) }) != nil ||
		blocked {
		return 0, late
	}
	c.read.spent = true
	until := time.Now().Add(Reprieve)
	_ = c.TCPConn.SetReadDeadline(until) // fails on a closed connection, as the next Read will
	if c.write.at > 0 && c.write.at < until.Sub(processStarted) {
		_ = c.TCPConn.SetWriteDeadline(until)
	}
	return n, endOfFile(n, err)
}

// Write sends bytes to the client.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err //nolint:wrapcheck // is the socket
	}
	more := c.writeOverdue(b[n:])
	switch n += more; {
	case n == len(b):
		return n, nil
	case more > 0:
		more, err = c.TCPConn.Write(b[n:])
		n += more
	}
	return n, err //nolint:wrapcheck // is the socket
}

// writeOverdue writes the bytes for which the socket has room although the deadline is over. It
// returns their number.
func (c *Conn) writeOverdue(b []byte) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.write.spent {
		return 0
	}
	_ = controlSocket(c.TCPConn, func(fd int) { // fails on a closed connection
		n, _, _ = writeSocket(uintptr(fd), b) // the caller reports that the deadline is over
	})
	if n > 0 {
		c.write.spent = true
		_ = c.TCPConn.SetWriteDeadline(time.Now().Add(Reprieve)) // fails as the next Write will
	}
	return n
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

// NewListener returns a listener that turns the TCP connections of l into Conns. It leaves
// connections of any further type, like TLS, as they are.
func NewListener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		return &Conn{TCPConn: tcp}, nil
	}
	return conn, err //nolint:wrapcheck // net/http looks at it
}

// Unwrap returns the connection below TLS, Sealed and Conn. Its Close sends nothing, so it never
// blocks. Unwrap returns conn itself if conn wraps nothing.
func Unwrap(conn net.Conn) net.Conn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	switch c := conn.(type) {
	case *Sealed:
		return c.TCPConn
	case *Conn:
		return c.TCPConn
	default:
		return conn
	}
}
