package control

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// rawCaller speaks HTTP/2 by hand: it begins messages that it does not end.
type rawCaller struct {
	net.Conn

	framer  *http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // stream
	frames  chan rawFrame
}

// rawFrame is a frame that a rawCaller has read.
type rawFrame struct {
	kind   http2.FrameType
	stream uint32
	status string // of a call that has ended
	err    error  // then the connection is over
	data   string // of a GOAWAY
}

func (f *fixture) rawCaller(t testing.TB) *rawCaller {
	t.Helper()
	conn, err := f.listener.DialContext(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return newRawCaller(t, conn)
}

func newRawCaller(t testing.TB, conn net.Conn) *rawCaller {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	c := &rawCaller{Conn: conn, frames: make(chan rawFrame, 1<<12)}
	c.prepare()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	if err := c.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	go c.read()
	return c
}

// prepare gives the caller its HTTP/2 framer.
func (c *rawCaller) prepare() {
	c.framer, c.next = http2.NewFramer(c.Conn, c.Conn), 1
	c.encoder = hpack.NewEncoder(&c.headers)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
}

// read ends with the connection.
func (c *rawCaller) read() {
	defer close(c.frames)
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			c.frames <- rawFrame{err: err}
			return
		}
		one := rawFrame{kind: frame.Header().Type, stream: frame.Header().StreamID}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range frame.Fields {
				if field.Name == "grpc-status" {
					one.status = field.Value
				}
			}
		case *http2.GoAwayFrame:
			one.data = string(frame.DebugData())
		}
		c.frames <- one
	}
}

// begin calls a method, with a credential unless that is empty, and with more headers.
func (c *rawCaller) begin(
	method, authorization string, more ...[2]string,
) (stream uint32, _ error) {
	c.headers.Reset()
	for _, field := range append([][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", method},
		{":authority", "hub"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
		{"authorization", authorization},
	}, more...) {
		if field[1] != "" {
			if err := c.encoder.WriteField(
				hpack.HeaderField{Name: field[0], Value: field[1]},
			); err != nil {
				return 0, err
			}
		}
	}
	stream = c.next
	c.next += 2
	return stream, c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, BlockFragment: c.headers.Bytes(), EndHeaders: true,
	})
}

// announce begins a message of so many bytes, and sends some of them.
func (c *rawCaller) announce(stream uint32, length, sent int) error {
	b := binary.BigEndian.AppendUint32([]byte{0}, uint32(length))
	b = append(b, make([]byte, sent)...)
	for len(b) > 0 {
		n := min(len(b), 16<<10)
		if err := c.framer.WriteData(stream, false, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// status waits for the end of a call.
func (c *rawCaller) status(t testing.TB, stream uint32) string {
	t.Helper()
	for frame := range c.frames {
		if frame.err != nil {
			t.Fatalf("the connection ended: %v", frame.err)
		}
		if frame.stream == stream && frame.status != "" {
			return frame.status
		}
	}
	t.Fatal("the connection was over")
	return ""
}

// over waits for the end of the connection, and returns the reason that the hub gave, if any.
func (c *rawCaller) over() (said string) {
	for frame := range c.frames {
		if frame.kind == http2.FrameGoAway {
			said = strings.TrimSpace(said + " " + frame.data)
		}
	}
	return said
}

var errWritesGoOn = errors.New("the connection takes whatever is written")
