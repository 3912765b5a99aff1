package edge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// errNothing is the error of a wire that has nothing to read now.
var errNothing = errors.New("nothing to read")

// script is a wire on which the client's bytes come in pieces, with nothing to read between them.
type script struct {
	net.Conn

	pieces  []string
	gap     bool
	written strings.Builder
	closed  bool
}

func (s *script) Read(b []byte) (int, error) {
	switch {
	case len(s.pieces) == 0:
		return 0, io.EOF
	case s.gap:
		s.gap = false
		return 0, errNothing
	}
	n := copy(b, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces, s.gap = s.pieces[1:], true
	}
	return n, nil
}

func (s *script) Write(b []byte) (int, error) { return s.written.Write(b) }
func (s *script) Close() error                { s.closed = true; return nil }

// hijacked is a response whose connection is a script.
type hijacked struct {
	*httptest.ResponseRecorder

	wire *script
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.wire,
		bufio.NewReadWriter(bufio.NewReaderSize(h.wire, 16), bufio.NewWriterSize(h.wire, 128)), nil
}

// TestCanary pins an undocumented behaviour of coder/websocket that parked links rely on. When a
// read of the wire fails at the beginning of a frame, Reader returns that error, and closes and
// forgets nothing. The next Reader goes on. Between two messages nothing of the first is left, so
// the second may be another client's. If this test fails after an update of the library, links need
// goroutines (Config.GoroutinePerLink) until it is mended.
func TestCanary(t *testing.T) {
	pieces := []string{
		masked(0x81, "one"),
		masked(0x89, "ping"),
		masked(0x82, strings.Repeat("two", 1000)),
		masked(0x01, "th") + masked(0x89, "") + masked(0x80, "ree"),
		masked(0x81, ""),
		masked(0x8A, "unasked"),
		masked(0x81, "four"),
		masked(0x88, "\x03\xe8bye"),
	}
	wire := &script{pieces: pieces, gap: true}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	ws, err := websocket.Accept(hijacked{httptest.NewRecorder(), wire}, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()

	var got []string
	gaps := 0
	for {
		_, message, err := ws.Reader(context.Background())
		if errors.Is(err, errNothing) {
			if gaps++; wire.closed {
				t.Fatal("the wire is closed though it only had nothing to read")
			}
			continue
		}
		if ce, ok := errors.AsType[websocket.CloseError](err); ok {
			if ce.Code != websocket.StatusNormalClosure || ce.Reason != "bye" {
				t.Errorf("closed with %v", ce)
			}
			break
		}
		if err != nil {
			t.Fatalf("after %d messages: %v", len(got), err)
		}
		p, err := io.ReadAll(message)
		if err != nil {
			t.Fatalf("message %d: %v", len(got), err)
		}
		got = append(got, string(p))
	}
	if want := []string{
		"one", strings.Repeat("two", 1000), "three", "", "four",
	}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
	if gaps != len(pieces) {
		t.Errorf("%d gaps, want %d", gaps, len(pieces))
	}
	if pong := "\x8a\x04ping\x8a\x00"; !strings.HasPrefix(wire.written.String(), pong) {
		t.Errorf("answered %q", wire.written.String())
	}
}
