package edge_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/permission"
)

// Conn is a client's end of a link: of a WebSocket, or of lines.
type Conn interface {
	Read(context.Context) (websocket.MessageType, []byte, error)
	Write(context.Context, websocket.MessageType, []byte) error
	CloseNow() error
	Subprotocol() string
}

// lineLink carries a connection over a pipe, in lines. It has a goroutine that reads and a
// goroutine that writes.
type lineLink struct {
	protocol   edge.Protocol
	framed     framing.Framed
	connection *hub.Connection
	conn       net.Conn
	wake       chan struct{} // there may be something to write

	mu  sync.Mutex
	how *cause.CloseStatus // why the link ends; nil: it does not
}

var _ hub.Link = (*lineLink)(nil)

// Flush implements hub.Link.
func (l *lineLink) Flush() {
	select {
	case l.wake <- struct{}{}:
	default: // the writer looks again anyway
	}
}

// Stirs implements hub.Link.
func (*lineLink) Stirs() bool { return false }

// Prefetch implements hub.Link.
func (*lineLink) Prefetch(int) {}

// Close implements hub.Link. A client has five seconds to read the rest.
func (l *lineLink) Close(how cause.CloseStatus) {
	l.mu.Lock()
	if l.how == nil {
		l.how = &how
		_ = l.conn.SetDeadline(time.Now().Add(5 * time.Second))
	}
	l.mu.Unlock()
	l.Flush()
}

func (l *lineLink) closing() *cause.CloseStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.how
}

// serve returns when the link has ended.
func (l *lineLink) serve() {
	var writer sync.WaitGroup
	writer.Go(l.writeLines)
	how := l.readLines()
	if !how.Cause.Resumable() {
		l.connection.Close(how)
	}
	l.Close(how)
	writer.Wait()
	l.connection.Unbind(l, *l.closing())
}

// writeLines writes the outbox, and the goodbye behind it.
func (l *lineLink) writeLines() {
	defer func() { _ = l.conn.Close() }()
	var batch hub.Batch
	for range l.wake {
		how := l.closing() // first: lines that wait when the link is closed are still written
		for l.connection.Take(l, &batch, 64<<10) {
			n, err := l.conn.Write(batch.Bytes)
			l.connection.Written(l, batch.Units(n))
			if err != nil {
				return
			}
		}
		if how != nil {
			if how.Code != 0 {
				goodbye := l.framed.AppendGoodbye(nil, *how)
				_, _ = l.conn.Write(appendClose(goodbye, how.Code, how.Reason))
			}
			return
		}
	}
}

// readLines hands the client's messages to the protocol, and returns how the link ended.
func (l *lineLink) readLines() cause.CloseStatus {
	for r := bufio.NewReader(l.conn); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return statusOf(err)
		}
		kind, message, err := parseLine(line)
		if err != nil {
			return statusOf(err)
		}
		if !l.connection.Turn(l) {
			continue
		}
		err = l.protocol.Receive(l.connection, kindOf(kind), message)
		l.connection.EndTurn()
		if violation, ok := errors.AsType[*edge.Violation](err); ok {
			return violation.Close
		}
	}
}

func kindOf(t websocket.MessageType) hub.PayloadKind {
	if t == websocket.MessageText {
		return hub.Text
	}
	return hub.Binary
}

// lineConn is the client's end of a lineLink.
type lineConn struct {
	net.Conn

	lines       *bufio.Reader
	subprotocol string
}

var (
	_ Conn = (*lineConn)(nil)
	_ Conn = (*websocket.Conn)(nil)
)

func (c *lineConn) Subprotocol() string { return c.subprotocol }

func (c *lineConn) CloseNow() error { return c.Close() }

func (c *lineConn) Read(ctx context.Context) (websocket.MessageType, []byte, error) {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	line, err := c.lines.ReadBytes('\n')
	if err != nil {
		return 0, nil, err
	}
	kind, message, err := parseLine(line)
	if err != nil {
		_ = c.Close()
	}
	return kind, message, err
}

func (c *lineConn) Write(_ context.Context, t websocket.MessageType, message []byte) error {
	_, err := c.Conn.Write(appendLine(nil, kindOf(t), message))
	return err
}

// joinedLines is a protocol, and the same with lines.
type joinedLines struct {
	edge.Protocol

	framed framing.Framed
}

// allowed lets a client do everything.
type allowed struct{}

func (allowed) Allows(permission.Permission) bool { return true }

// open connects a client as the bed's links are: a WebSocket, or lines.
func (b *bed) open(query string, subprotocols ...string) Conn {
	b.t.Helper()
	if b.lines == nil {
		return b.dial(query, subprotocols...)
	}
	return b.openLines(query, subprotocols...)
}

// openLines connects a client to the bed's hub over a pipe, without the edge.
func (b *bed) openLines(query string, subprotocols ...string) Conn {
	b.t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		b.t.Fatal(err)
	}
	p, subprotocol := b.lines[""], ""
	for _, name := range subprotocols {
		if found, ok := b.lines[name]; ok {
			p, subprotocol = found, name
			break
		}
	}
	client, server := net.Pipe()
	l := &lineLink{
		protocol: p.Protocol, framed: p.framed, conn: server, wake: make(chan struct{}, 1),
	}
	if err := b.bindLines(l, values); err != nil {
		b.t.Fatal(err)
	}
	go l.serve()
	c := &lineConn{client, bufio.NewReader(client), subprotocol}
	b.t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

// bindLines gives a returning client its connection, or a new client a new connection.
func (b *bed) bindLines(l *lineLink, query url.Values) error {
	ctx, namespace := b.t.Context(), hub.DefaultNamespace
	if p, ok := l.protocol.(edge.Resumable); ok {
		if id, token, ok := p.Resumes(query); ok {
			back, err := b.hub.Resume(ctx, namespace, id, token)
			if err != nil {
				return err
			}
			l.connection = back.Connection
			return back.Bind(l)
		}
	}
	claims := &hub.Claims{Roles: allowed{}}
	if p, ok := l.protocol.(edge.Configurable); ok {
		var err error
		if claims.Private, err = p.Configure(query); err != nil {
			return err
		}
	}
	var err error
	if l.connection, err = b.hub.Attach(ctx, hub.Admission{
		Namespace: namespace, User: query.Get("user"), Groups: query["group"],
		Protocol: l.framed, Claims: claims,
	}); err != nil {
		return err
	}
	return l.connection.Bind(l)
}

// joinAll joins all protocols of a bed with lines. The plain protocol has no name.
func joinAll(c *edge.Config) map[string]joinedLines {
	all := map[string]joinedLines{"": {c.Plain, joinLines(c.Plain)}}
	for _, p := range c.Protocols {
		all[p.Name()] = joinedLines{p, joinLines(p)}
	}
	return all
}

// onLines runs a test in a bubble whose clients come over lines, if they come by bed.open.
func onLines(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	var lines map[string]joinedLines
	bubble(t, func(t *testing.T, b *bed) {
		b.lines = lines
		test(t, b)
	}, append(setups, func(_ *hub.Config, c *edge.Config) { lines = joinAll(c) })...)
}

// eachLink runs a test in bubbles, over WebSockets in memory and over lines.
func eachLink(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	t.Run("websocket", func(t *testing.T) { bubble(t, test, setups...) })
	t.Run("lines", func(t *testing.T) { onLines(t, test, setups...) })
}

// eachFraming runs a test over WebSockets (eachWire) and over lines.
func eachFraming(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	eachWire(t, test, setups...)
	t.Run("lines", func(t *testing.T) { onLines(t, test, setups...) })
}
