package edge_test

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub/edge/frame"
)

// raw is a client that sends the bytes of a test, and sees each frame.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

const upgradeHeader = "Host: hub.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// connect opens a socket without saying anything.
func (b *bed) connect() *raw {
	b.t.Helper()
	conn, err := b.dialer(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return &raw{t: b.t, conn: conn, r: bufio.NewReader(conn)}
}

// upgrade connects a raw client to /ws; early is sent in the same write as the request.
func (b *bed) upgrade(query, early string) *raw {
	b.t.Helper()
	c, _ := b.upgradeWith(query, "\r\n"+early)
	return c
}

// upgradeWith is upgrade with rest: further lines of the request's header, its empty line, and
// bytes behind it. It returns the answer's header as well.
func (b *bed) upgradeWith(query, rest string) (*raw, http.Header) {
	b.t.Helper()
	c := b.connect()
	c.write("GET /ws?" + query + " HTTP/1.1\r\n" + upgradeHeader + rest)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatalf("status %s", resp.Status)
	}
	return c, resp.Header
}

func (c *raw) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// socket is the client's, below TLS if there is any.
func (c *raw) socket() *net.TCPConn {
	if t, ok := c.conn.(*tls.Conn); ok {
		return t.NetConn().(*net.TCPConn)
	}
	return c.conn.(*net.TCPConn)
}

// reset ends the socket with a RST, under TLS without a goodbye.
func (c *raw) reset() {
	c.t.Helper()
	if err := c.socket().SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	_ = c.socket().Close()
}

// masked is a whole client frame: first is its first byte.
func masked(first byte, payload string) string {
	var b []byte
	switch n := len(payload); {
	case n < 126:
		b = append(b, first, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, first, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, first, 0x80|127), uint64(n))
	}
	key := []byte{1, 2, 3, 4}
	b = append(b, key...)
	header := len(b)
	b = append(b, payload...)
	// In a loop over bytes, large payloads take long under the race detector.
	subtle.XORBytes(b[header:], b[header:], bytes.Repeat(key, len(payload)/len(key)+1))
	return string(b)
}

// receivedFrame is a frame from the server.
type receivedFrame struct {
	opcode     frame.Opcode
	fin        bool
	compressed bool
	payload    string
}

// frame reads a frame. A frame that no server may send is an error.
func (c *raw) frame() (receivedFrame, error) {
	var h [2]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return receivedFrame{}, err
	}
	f := receivedFrame{
		opcode: frame.OpcodeOf(h[0]), fin: h[0]&0x80 != 0,
		compressed: h[0]&0x40 != 0,
	}
	n := uint64(h[1])
	var long [8]byte
	var err error
	switch n {
	case 126:
		_, err = io.ReadFull(c.r, long[6:])
		n = binary.BigEndian.Uint64(long[:])
	case 127:
		_, err = io.ReadFull(c.r, long[:])
		n = binary.BigEndian.Uint64(long[:])
	}
	switch {
	case err != nil:
		return f, err
	case h[0]&0x30 != 0 || h[1]&0x80 != 0 || n > 64<<20:
		return f, fmt.Errorf("not a frame of a server: % x", h)
	case f.opcode != frame.Text && f.opcode != frame.Binary && !f.opcode.Control():
		return f, fmt.Errorf("opcode %#x", byte(f.opcode))
	}
	payload := make([]byte, n)
	_, err = io.ReadFull(c.r, payload)
	f.payload = string(payload)
	return f, err
}

// wantFrame reads a frame and compares it.
func (c *raw) wantFrame(o frame.Opcode, payload string) {
	c.t.Helper()
	f, err := c.frame()
	if err != nil || f.opcode != o || f.payload != payload || !f.fin || f.compressed {
		c.t.Errorf("got %+v, %v; want opcode %#x %q", f, err, byte(o), payload)
	}
}

// ending is how a link ended for its client.
type ending struct {
	closed bool // with a close frame
	code   uint16
	reason string
	// anything that is not a well-formed end: a reset, half a frame, a frame after the close frame
	err error
}

// end reads to the end.
func (c *raw) end() ending {
	var e ending
	for {
		f, err := c.frame()
		switch {
		case errors.Is(err, io.EOF):
			return e
		case err != nil:
			e.err = err
			return e
		case e.closed:
			e.err = fmt.Errorf("frame %+v after the close frame", f)
			return e
		case f.opcode == frame.Close:
			e.closed = true
			if len(f.payload) >= 2 {
				e.code, e.reason = binary.BigEndian.Uint16([]byte(f.payload)), f.payload[2:]
			}
		}
	}
}

func (c *raw) wantEnd(code uint16, reasonPart string) {
	c.t.Helper()
	if e := c.end(); e.err != nil || !e.closed || e.code != code ||
		!strings.Contains(e.reason, reasonPart) {
		c.t.Errorf("ended with %+v, want %d %q", e, code, reasonPart)
	}
}
