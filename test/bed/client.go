package bed

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Opcodes and bits of RFC 6455 §5.2, as the client sees them: it shares no code with the hub.
const (
	OpText   = 0x1
	OpBinary = 0x2
	OpClose  = 0x8
	OpPing   = 0x9
	OpPong   = 0xa

	FinBit  = 0x80 // of the first byte
	MaskBit = 0x80 // of the second byte
)

// HandshakeLimit bounds a handshake on a busy machine, while thousands of others are in progress.
// The hub has a limit of its own.
const HandshakeLimit = 5 * time.Minute

// HandshakesAtOnce is how many handshakes of clients a test has under way at once.
const HandshakesAtOnce = 16

// Client is a WebSocket client. It is small enough for thousands of them, and accepts exactly the
// frames that a hub may send: whole, unmasked frames.
type Client struct {
	Conn   net.Conn             // behind TLS, if there is TLS
	Reader *bufio.Reader        // of Conn; owned by the goroutine that reads
	Pong   func(payload []byte) // takes the answers to its own pings; nil: it sends none
}

// DialClient connects to the path of a hub's client address, for HandshakeLimit at most. protocol
// is the requested subprotocol, or empty.
func DialClient(
	ctx context.Context, dialer net.Dialer, address, path, protocol string,
) (*Client, error) {
	dialer.Timeout = HandshakeLimit
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return NewClient(conn, address, path, protocol)
}

// NewClient shakes hands on a connection, for HandshakeLimit at most. It closes the connection when
// that fails.
func NewClient(conn net.Conn, address, path, protocol string) (*Client, error) {
	c := &Client{Conn: conn, Reader: bufio.NewReaderSize(conn, 2<<10)}
	if err := c.shakeHands(address, path, protocol); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

// Reliable is the subprotocol whose connections can be resumed.
const Reliable = "json.reliable.webpubsub.azure.v1"

// ResumeQuery is the query of a Reliable client that comes back for its connection.
func ResumeQuery(connection, token string) string {
	return url.Values{
		"awps_connection_id": {connection}, "awps_reconnection_token": {token},
	}.Encode()
}

// UpgradeRequest is the opening handshake (RFC 6455 §4.1) with the nonce of its example.
func UpgradeRequest(address, path, protocol string) string {
	request := "GET " + path +
		" HTTP/1.1\r\nHost: " + address + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if protocol != "" {
		request += "Sec-WebSocket-Protocol: " + protocol + "\r\n"
	}
	return request + "\r\n"
}

func (c *Client) shakeHands(address, path, protocol string) error {
	if err := c.Conn.SetDeadline(time.Now().Add(HandshakeLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c.Conn, UpgradeRequest(address, path, protocol)); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.Reader, nil)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // a 101 has none
	if response.StatusCode == http.StatusServiceUnavailable {
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		return errors.Join(RefusedError{time.Duration(seconds) * time.Second}, err)
	}
	accept := response.Header.Get("Sec-WebSocket-Accept")
	if response.StatusCode != http.StatusSwitchingProtocols ||
		accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return fmt.Errorf("handshake: %s, accept %q", response.Status, accept)
	}
	if got := response.Header.Get("Sec-WebSocket-Protocol"); got != protocol {
		return fmt.Errorf("handshake: subprotocol %q, want %q", got, protocol)
	}
	return c.Conn.SetDeadline(time.Time{})
}

// RefusedError says that the hub has answered the handshake with 503.
type RefusedError struct {
	RetryAfter time.Duration // when the client should come back
}

func (e RefusedError) Error() string { return fmt.Sprintf("refused for %v", e.RetryAfter) }

// ClosedError tells how the hub closed a connection. Two of them are equal if all fields are.
type ClosedError struct {
	Code   uint16 // RFC 6455 §7.4
	Reason string // the hub's, may be empty
}

func (e ClosedError) Error() string { return fmt.Sprintf("closed: %d %s", e.Code, e.Reason) }

// ParseClose parses the payload of a close frame, of at least two bytes.
func ParseClose(payload []byte) ClosedError {
	return ClosedError{binary.BigEndian.Uint16(payload), string(payload[2:])}
}

// Read gives each message to take until the connection ends, and returns the reason. The reason is
// a ClosedError after a close frame, which Read answers. The bytes belong to Read.
func (c *Client) Read(take func(message []byte)) error {
	defer c.Conn.Close()
	var buffer []byte
	for {
		opcode, payload, err := c.ReadFrame(buffer)
		if err != nil {
			return err
		}
		buffer = payload[:0]
		switch opcode {
		case OpText, OpBinary:
			take(payload)
		case OpPing:
			_, err = c.Conn.Write(MaskedFrame(OpPong, payload))
		case OpPong:
			if c.Pong == nil {
				return errors.New("pong without a ping")
			}
			c.Pong(payload)
		case OpClose:
			if len(payload) < 2 {
				return errors.New("close frame without a code")
			}
			_, _ = c.Conn.Write(MaskedFrame(OpClose, payload)) // the hub may be gone
			return ParseClose(payload)
		default:
			err = fmt.Errorf("frame with opcode %#x", opcode)
		}
		if err != nil {
			return err
		}
	}
}

// ReadFrame reads a frame into buffer, and returns its opcode and payload. It may replace buffer by
// a larger buffer.
func (c *Client) ReadFrame(buffer []byte) (opcode byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c.Reader, head[:2]); err != nil {
		return 0, nil, err
	}
	if head[0]&0xf0 != FinBit || head[1]&MaskBit != 0 {
		return 0, nil, fmt.Errorf(
			"frame with the head % x: not final, reserved bits or masked", head[:2],
		)
	}
	opcode, size := head[0]&0x0f, uint64(head[1])
	switch size {
	case 126:
		_, err = io.ReadFull(c.Reader, head[:2])
		size = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(c.Reader, head[:8])
		size = binary.BigEndian.Uint64(head[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	if uint64(cap(buffer)) < size {
		buffer = make([]byte, size)
	}
	payload = buffer[:size]
	_, err = io.ReadFull(c.Reader, payload)
	return opcode, payload, err
}

// MaskedFrame returns a final frame of at most 125 bytes as a client sends it. The mask is
// constant: it protects proxies from pages, and the tests have neither.
func MaskedFrame(opcode byte, payload []byte) []byte {
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b := append([]byte{FinBit | opcode, MaskBit | byte(len(payload))}, mask[:]...)
	for i, p := range payload {
		b = append(b, p^mask[i%4])
	}
	return b
}
