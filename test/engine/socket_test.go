//go:build bench && linux

package engine

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// handshakeLimit bounds a handshake while thousands of others are in progress.
const handshakeLimit = 30 * time.Second

// The parts of RFC 6455 §5.2 that a client needs. This client shares no code with the hub.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xa

	finBit  = 0x80
	maskBit = 0x80
)

// socket is a client: a descriptor that the crowd reads in passes, and the state of the frames on
// it.
type socket struct {
	fd     int
	secure *tls.Conn // over fd; nil without TLS
	paused bool
	// hasLeft says that the client has closed the socket, after the hub's close frame.
	hasLeft bool

	head    []byte // the header of a frame that has not arrived whole
	opcode  byte
	rest    int    // bytes of payload that have not arrived
	control []byte // payload of a control frame
	got     int64  // bytes of messages, headers included
}

// dialSocket connects and shakes hands (RFC 6455 §4.1). The source address depends on i, because a
// single address has too few ports for all clients.
func dialSocket(o *opening, path string, i int) (*socket, error) {
	source := &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%100))}
	dialer := net.Dialer{Timeout: handshakeLimit, Control: reno, LocalAddr: source}
	if i < o.Narrow {
		dialer.Control = narrow
	}
	conn, err := dialer.Dial("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	s, w, over := &socket{}, &wire{Conn: conn}, conn
	if o.TLS {
		s.secure = tls.Client(w, clientTLS)
		over = s.secure
	}
	if err := s.upgrade(over, o, path); err != nil {
		return nil, err
	}
	s.fd, err = duplicate(conn.(*net.TCPConn))
	w.fd = s.fd
	return s, err
}

// narrow makes the receive buffer as small as possible.
func narrow(network, address string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1)
	})
	return errors.Join(err, failed, reno(network, address, raw))
}

func (s *socket) upgrade(conn net.Conn, o *opening, path string) error {
	if err := conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return err
	}
	request := "GET " + path +
		" HTTP/1.1\r\nHost: " + o.Address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		o.Header + "\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return err
	}
	answer := make([]byte, 0, 1024)
	for {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
		head, rest, whole := strings.Cut(string(answer), "\r\n\r\n")
		switch {
		case whole && strings.HasPrefix(head, "HTTP/1.1 101 "):
			return errors.Join(conn.SetDeadline(time.Time{}), s.parse([]byte(rest)))
		case whole || err != nil || len(answer) == cap(answer):
			return fmt.Errorf("handshake: %q, %w", head, err)
		}
	}
}

// read reads all arrived bytes.
func (s *socket) read(buffer []byte) error {
	for {
		n, err := s.receive(buffer)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return nil
		case err != nil:
			return err
		}
		if err := s.parse(buffer[:n]); err != nil || s.secure == nil && n < len(buffer) {
			return err
		}
	}
}

// receive reads once. EAGAIN means that no bytes have arrived.
func (s *socket) receive(buffer []byte) (int, error) {
	if s.secure != nil {
		return s.secure.Read(buffer)
	}
	return readRaw(s.fd, buffer)
}

// readRaw reads from a non-blocking socket. EAGAIN means that no bytes have arrived.
func readRaw(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(fd), uintptr(
			unsafe.Pointer(unsafe.SliceData(b)),
		), uintptr(len(b)))
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, errors.New("the hub hung up")
		}
		return int(n), nil
	}
}

// parse counts the bytes of messages, and answers pings.
func (s *socket) parse(b []byte) error {
	for len(b) > 0 {
		if s.rest == 0 {
			s.head, b = append(s.head, b[0]), b[1:]
			if !s.begun() {
				continue
			}
		}
		n := min(s.rest, len(b))
		if s.opcode >= opClose {
			s.control = append(s.control, b[:n]...)
		} else {
			s.got += int64(n)
		}
		s.rest, b = s.rest-n, b[n:]
		if s.rest == 0 {
			if err := s.end(); err != nil {
				return err
			}
		}
	}
	return nil
}

// begun reports whether the header is whole, and parses it if so.
func (s *socket) begun() bool {
	h := s.head
	if len(h) < 2 {
		return false
	}
	switch length := h[1]; {
	case length < 126:
		s.rest = int(length)
	case length == 126 && len(h) == 4:
		s.rest = int(binary.BigEndian.Uint16(h[2:]))
	case length == 127 && len(h) == 10:
		s.rest = int(binary.BigEndian.Uint64(h[2:]))
	default:
		return false
	}
	if s.opcode = h[0] & 0x0f; s.opcode < opClose {
		s.got += int64(len(h))
	}
	s.head = h[:0]
	return true
}

// end handles a whole frame.
func (s *socket) end() error {
	payload := s.control
	s.control = s.control[:0]
	switch s.opcode {
	case opPing:
		return s.write(clientFrame(opPong, payload))
	case opClose:
		return fmt.Errorf("%w: %q", errClosed, payload)
	}
	return nil
}

// errClosed: the hub has sent a close frame.
var errClosed = errors.New("the hub closed")

// leave answers a close frame, and closes the socket.
func (s *socket) leave() error {
	s.hasLeft = true
	return errors.Join(s.write(clientFrame(opClose, nil)), syscall.Close(s.fd))
}

// clientFrame returns a frame of at most 125 bytes. The mask is constant: it protects proxies from
// pages, and the tests have neither.
func clientFrame(opcode byte, payload []byte) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := append([]byte{finBit | opcode, maskBit | byte(len(payload))}, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func (s *socket) write(b []byte) error {
	if s.secure == nil {
		return writeRaw(s.fd, b)
	}
	_, err := s.secure.Write(b)
	return err
}

// reset closes the socket with a reset, which leaves nothing behind in the kernel.
func (s *socket) reset() error {
	return errors.Join(
		syscall.SetsockoptLinger(
			s.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1},
		),
		syscall.Close(s.fd))
}
