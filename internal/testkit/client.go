package testkit

import (
	"testing"

	"github.com/coder/websocket"
)

// DialClient connects a WebSocket client. The query holds its identity.
func DialClient(t *testing.T, address, query string) *websocket.Conn {
	t.Helper()
	return DialClientWith(t, address, query, nil)
}

// DialClientWith is DialClient with options.
func DialClientWith(
	t *testing.T, address, query string, options *websocket.DialOptions,
) *websocket.Conn {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), "ws://"+address+"/ws?"+query, options)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// NextMessage reads a client's next message.
func NextMessage(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	type message struct {
		text []byte
		err  error
	}
	c := make(chan message, 1)
	go func() {
		_, b, err := conn.Read(t.Context())
		c <- message{b, err}
	}()
	m, _ := Receive(t, "the next message", c)
	if m.err != nil {
		t.Fatal(m.err)
	}
	return string(m.text)
}
