package test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Opcodes and bits of RFC 6455 §5.2, as the client sees them: it shares no code with the hub.
const (
	opText   = 0x1
	opBinary = 0x2
	opClose  = 0x8
	opPing   = 0x9
	opPong   = 0xa

	finBit  = 0x80
	maskBit = 0x80
)

// handshakeLimit bounds a handshake on a busy machine, while thousands of others are in progress.
// The hub has a limit of its own.
const handshakeLimit = 5 * time.Minute

// client is a WebSocket client. It is small enough for thousands of them, and accepts exactly the
// frames that a hub may send: whole, unmasked frames.
type client struct {
	conn   net.Conn
	reader *bufio.Reader
	pong   func(payload []byte) // takes the answers to its own pings; nil: it sends none
}

// narrow makes a socket's receive buffer as small as the kernel allows, before the handshake, so
// that a client that does not read fills up soon.
var narrow = setting(keeps(1))

// option is an option of a socket, as setsockopt(2) takes it.
type option struct{ level, name, value int }

// keeps limits the received bytes that the kernel keeps to about so many.
func keeps(bytes int) option { return option{syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes} }

// setting sets options of a socket before it connects.
func setting(options ...option) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			for _, o := range options {
				failed = errors.Join(
					failed, syscall.SetsockoptInt(int(fd), o.level, o.name, o.value),
				)
			}
		})
		return errors.Join(err, failed)
	}
}

// dialClient connects to the path of a hub's client address. protocol is the requested subprotocol,
// or empty.
func dialClient(dialer net.Dialer, address, path, protocol string) (*client, error) {
	dialer.Timeout = handshakeLimit
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return newClient(conn, address, path, protocol)
}

// newClient shakes hands on a connection, which it closes when that fails.
func newClient(conn net.Conn, address, path, protocol string) (*client, error) {
	c := &client{conn: conn, reader: bufio.NewReaderSize(conn, 2<<10)}
	if err := c.upgrade(address, path, protocol); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// upgradeRequest is the opening handshake (RFC 6455 §4.1) with the nonce of its example.
func upgradeRequest(address, path, protocol string) string {
	request := "GET " + path +
		" HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if protocol != "" {
		request += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	return request + "\r\n"
}

func (c *client) upgrade(address, path, protocol string) error {
	if err := c.conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, upgradeRequest(address, path, protocol)); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // a 101 has none
	accept := response.Header.Get("Sec-WebSocket-Accept")
	if response.StatusCode != http.StatusSwitchingProtocols ||
		accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return fmt.Errorf("handshake: %s, accept %q", response.Status, accept)
	}
	if got := response.Header.Get("Sec-WebSocket-Protocol"); got != protocol {
		return fmt.Errorf("handshake: subprotocol %q, want %q", got, protocol)
	}
	return c.conn.SetDeadline(time.Time{})
}

// errClosed: the hub closed with this code.
type errClosed struct {
	code   uint16
	reason string
}

func (e errClosed) Error() string { return fmt.Sprintf("closed: %d %s", e.code, e.reason) }

// read gives each message to take until the connection ends, and returns the reason. The reason is
// errClosed after a close frame, which read answers. The bytes belong to read.
func (c *client) read(take func(message []byte)) error {
	defer c.conn.Close()
	var buffer []byte
	for {
		opcode, payload, err := c.readFrame(buffer)
		if err != nil {
			return err
		}
		buffer = payload[:0]
		switch opcode {
		case opText, opBinary:
			take(payload)
		case opPing:
			_, err = c.conn.Write(maskedFrame(opPong, payload))
		case opPong:
			if c.pong == nil {
				return errors.New("pong without a ping")
			}
			c.pong(payload)
		case opClose:
			if len(payload) < 2 {
				return errors.New("close frame without a code")
			}
			_, _ = c.conn.Write(maskedFrame(opClose, payload)) // the hub may be gone
			return errClosed{binary.BigEndian.Uint16(payload), string(payload[2:])}
		default:
			err = fmt.Errorf("frame with opcode %#x", opcode)
		}
		if err != nil {
			return err
		}
	}
}

// readFrame reads a frame into buffer. It may replace buffer by a larger buffer.
func (c *client) readFrame(buffer []byte) (opcode byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.reader, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != finBit || head[1]&maskBit != 0 {
		return 0, nil, fmt.Errorf(
			"frame with the head % x: not final, reserved bits or masked", head[:2],
		)
	}
	opcode, size := head[0]&0x0f, uint64(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(c.reader, head[:2])
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(c.reader, head[:8])
		size = binary.BigEndian.Uint64(head[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	if uint64(cap(buffer)) < size {
		buffer = make([]byte, size)
	}
	payload = buffer[:size]
	_, err = io.ReadFull(c.reader, payload)
	return opcode, payload, err
}

// maskedFrame returns a final frame of at most 125 bytes as a client sends it. The mask is
// constant: it protects proxies from pages, and the tests have neither.
func maskedFrame(opcode byte, payload []byte) []byte {
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b := append([]byte{finBit | opcode, maskBit | byte(len(payload))}, mask[:]...)
	for i, p := range payload {
		b = append(b, p^mask[i%4])
	}
	return b
}

// textOf returns the text in a message of a protocol; false: it is no message of a backend.
func textOf(protocol string, message []byte) (string, bool) {
	text := string(message)
	if protocol == "" {
		return text, true
	}
	// Tests' texts need no escapes.
	_, data, ok := strings.Cut(text, `"dataType":"text","data":"`)
	if !ok {
		return "", false
	}
	return strings.TrimSuffix(data, `"}`), true
}
