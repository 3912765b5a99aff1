package edge

import (
	"bufio"
	"context"
	"net"
	"net/http"

	"github.com/connhub/connhub/hub"
)

const (
	// readBuffer is what a link keeps to read with: small, because most links are silent most of the time.
	// Longer messages are read past it.
	readBuffer = 512
	// writeBuffer must hold the longest control frame (127 bytes): so each comes as one Write, which is
	// what wire.Write relies on.
	writeBuffer = 128
)

// upgrade is a response writer that gives coder/websocket our wire in place of the socket. One is used for one
// handshake.
type upgrade struct {
	http.ResponseWriter

	server       *Server
	connection   *hub.Connection
	protocol     *spoken
	subprotocols []string

	link *link // once hijacked
}

var _ http.Hijacker = (*upgrade)(nil)

// Hijack takes the socket from net/http, with buffers that fit a million silent links.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	u.link = newLink(u.server, u.connection, u.protocol, conn)
	// What a client sent behind its request, without waiting for the answer, is in net/http's buffer.
	if n := buffered.Reader.Buffered(); n > 0 {
		early := make([]byte, n)
		_, _ = buffered.Reader.Read(early) // can't fail or fall short: they are there
		u.link.early = early
	}
	w := (*wire)(u.link)
	u.link.buffered = bufio.NewReaderSize(w, readBuffer)
	return w, bufio.NewReadWriter(u.link.buffered, bufio.NewWriterSize(w, writeBuffer)), nil
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (u *upgrade) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// pong is called by the read loop, so the link is there.
func (u *upgrade) pong(_ context.Context, payload []byte) { u.link.pong(payload) }
