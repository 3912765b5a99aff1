package webpubsub_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/hub/permission"
)

// bed is a hub whose clients use the protocol without a network.
type bed struct {
	hub      *hub.Hub
	rejected []edge.RejectReason // of the commands that failed, in order
	events   events
	framed   map[edge.Protocol]framing.Framed
	failed   error // the result of Publish, if not nil
}

// events records the events of clients, as a subscriber.
type events struct {
	mu   sync.Mutex
	list []hub.ClientEvent
	deaf bool // there is no subscriber
}

// Applied implements hub.Observer.
func (e *events) Applied(_ *hub.Connection, op hub.Op) {
	if op.Event != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.list = append(e.list, *op.Event)
	}
}

// Emitted implements hub.Observer.
func (e *events) Emitted(c *hub.Connection, op hub.Op) bool {
	if e.deaf {
		return false
	}
	e.Applied(c, op)
	return true
}

// Publish implements edge.Publisher.
func (b *bed) Publish(ctx context.Context, s *hub.Send) error {
	if b.failed != nil {
		return b.failed
	}
	_, err := b.hub.Deliver(ctx, s)
	return err
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{framed: map[edge.Protocol]framing.Framed{}}
	c := hub.DefaultConfig()
	c.ID = hub.NewID()
	c.Observers = []hub.Observer{{Applied: b.events.Applied, Emitted: b.events.Emitted}}
	var err error
	if b.hub, err = hub.New(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.hub.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := b.hub.CheckAtRest(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// client is a connection and the frames that its wire has carried.
type client struct {
	*hub.Connection

	bed      *bed
	t        testing.TB
	protocol edge.Protocol
	wire     wire
}

// wire is a hub.Link that takes everything at once.
type wire struct {
	client *client
	mu     sync.Mutex
	batch  hub.Batch
	bytes  []byte
}

// Flush implements hub.Link.
func (w *wire) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.client.Take(w, &w.batch, 64<<10) {
		w.bytes = append(w.bytes, w.batch.Bytes...)
		w.client.Written(w, w.batch.Units(len(w.batch.Bytes)))
	}
}

// Prefetch implements hub.Link.
func (w *wire) Prefetch(int) {}
func (*wire) Stirs() bool    { return false }

// Close implements hub.Link.
func (w *wire) Close(how cause.CloseStatus) {
	w.Flush()
	w.client.Unbind(w, how)
}

// all lets a client do everything.
type all struct{}

func (all) Allows(permission.Permission) bool { return true }

func (b *bed) connect(t testing.TB, p edge.Protocol, user string) *client {
	t.Helper()
	c := b.connectWith(t, p, hub.Admission{User: user, Claims: &hub.Claims{Roles: all{}}})
	c.messages() // the greeting
	return c
}

func (b *bed) connectWith(t testing.TB, p edge.Protocol, a hub.Admission) *client {
	t.Helper()
	if b.framed[p] == nil {
		b.framed[p] = framing.WebSocket(p)
	}
	a.Namespace, a.Protocol = hub.DefaultNamespace, b.framed[p]
	connection, err := b.hub.Attach(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{Connection: connection, bed: b, t: t, protocol: p}
	c.wire.client = c
	if err := connection.Bind(&c.wire); err != nil {
		t.Fatal(err)
	}
	return c
}

// json is the subprotocol without sequence ids, reliable the subprotocol with them.
func (b *bed) json() edge.Protocol { return webpubsub.JSON{Publisher: b} }

func (b *bed) reliable() edge.Protocol {
	return webpubsub.ReliableJSON{JSON: webpubsub.JSON{Publisher: b}}
}

// messages returns the payloads written since the last call: each a whole text frame.
func (c *client) messages() []string {
	c.t.Helper()
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	var all []string
	for b := c.wire.bytes; len(b) > 0; {
		h, ok := frame.ParseHeader(b)
		if !ok || h.Opcode != frame.Text || !h.Final || h.Size > uint64(len(b)) {
			c.t.Fatalf("not a text frame: %q", b[:min(len(b), 40)])
		}
		if payload := b[h.Start:h.Size]; json.Valid(payload) {
			all = append(all, string(payload))
		} else {
			c.t.Fatalf("not JSON: %.200s", payload)
		}
		b = b[h.Size:]
	}
	c.wire.bytes = nil
	return all
}

// say has the client send a message. It returns the replies, and the status with which the client
// was closed for it: zero if it was not.
func (c *client) say(message string) ([]string, cause.CloseStatus) {
	c.t.Helper()
	err := c.protocol.Receive(c.Connection, hub.Text, []byte(message))
	v, violates := errors.AsType[*edge.Violation](err)
	rejection, rejected := errors.AsType[*edge.Rejection](err)
	switch {
	case violates:
		return c.messages(), v.Close
	case rejected:
		c.bed.rejected = append(c.bed.rejected, rejection.Reason)
	case err != nil:
		c.t.Fatalf("%s: %v", message, err)
	}
	return c.messages(), cause.CloseStatus{}
}

// do is say for a message that must not close the client.
func (c *client) do(message string) []string {
	c.t.Helper()
	got, how := c.say(message)
	if how != (cause.CloseStatus{}) {
		c.t.Fatalf("%s: closed with %+v", message, how)
	}
	return got
}

// watcher is an edge.Publisher that keeps the last send.
type watcher struct{ last *hub.Send }

// Publish implements edge.Publisher.
func (w *watcher) Publish(_ context.Context, s *hub.Send) error {
	w.last = s
	return nil
}
