package hub

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/hub/cause"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newHub returns a hub that is checked for contradictions when the test ends.
func newHub(t testing.TB, change ...func(*Config)) *Hub {
	t.Helper()
	config := DefaultConfig()
	config.ID = NewID()
	for _, f := range change {
		f(&config)
	}
	h, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.CheckAtRest(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// bare shows the payload alone; routed the route too. Both frame with a length, as a wire would.
type (
	bare   struct{}
	routed struct{}
)

func (bare) Name() string                      { return "bare" }
func (bare) RouteKey(Route) Route              { return Route{} }
func (bare) Encode(m *Message, _ Route) []byte { return appendFrame(nil, m.Payload) }
func (routed) Name() string                    { return "routed" }
func (routed) RouteKey(r Route) Route          { return r }
func (routed) Encode(m *Message, r Route) []byte {
	return appendFrame(nil, showRoute(r)+string(m.Payload))
}

func (bare) AppendGreeting(dst []byte, _ Info, _ string) []byte   { return dst }
func (routed) AppendGreeting(dst []byte, _ Info, _ string) []byte { return dst }

// AppendReply frames an answer like a message.
func (bare) AppendReply(dst []byte, _ PayloadKind, message []byte) []byte {
	return appendFrame(dst, message)
}

// AppendReply frames an answer like a message.
func (routed) AppendReply(dst []byte, _ PayloadKind, message []byte) []byte {
	return appendFrame(dst, message)
}

func showRoute(r Route) string {
	return map[RouteKind]string{
		RouteConnection: "c", RouteUser: "u", RouteGroup: "g", RouteEveryone: "e",
	}[r.Kind] +
		r.Group + ":"
}

// frameHeader is the bytes that appendFrame adds.
const frameHeader = 4

func appendFrame[T string | []byte](dst []byte, payload T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(payload)))
	return append(dst, payload...)
}

// memory is a link into memory. It stalls, and goes away, when told to.
type memory struct {
	connection *Connection

	mu      sync.Mutex
	stalled bool
	lingers bool // stays when it is closed, as a wire does whose client is slow
	full    bool // takes and does not write, as a wire does whose client reads nothing
	stirs   bool // has input that was not read
	asks    bool // asks again though Batch.Last says that there is no more
	batch   Batch
	wire    []byte
	closed  []cause.CloseStatus
}

// memoryMax is small, so that a queue takes several batches.
const memoryMax = 256

func (*memory) Prefetch(int) {}

// Stirs implements Link.
func (l *memory) Stirs() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stirs
}

func (l *memory) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.stalled && l.connection.Take(l, &l.batch, memoryMax) {
		if !l.full {
			l.wire = append(l.wire, l.batch.Bytes...)
			l.connection.Written(l, l.batch.Units(len(l.batch.Bytes)))
		}
		if l.batch.Last && !l.asks {
			return
		}
	}
}

func (l *memory) Close(how cause.CloseStatus) {
	l.mu.Lock()
	l.closed = append(l.closed, how)
	first := len(l.closed) == 1 && !l.lingers
	l.mu.Unlock()
	if first {
		l.Flush()
		l.connection.Unbind(l, how)
	}
}

func (l *memory) stall(on bool) {
	l.mu.Lock()
	l.stalled = on
	l.mu.Unlock()
	l.Flush()
}

// frames returns the frames that the client has got.
func (l *memory) frames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []string
	for b := l.wire; len(b) > 0; {
		n := binary.BigEndian.Uint32(b)
		all = append(all, string(b[4:4+n]))
		b = b[4+n:]
	}
	return all
}

// client is a connection with its link.
type client struct {
	*Connection
	link *memory
}

func connect(t testing.TB, h *Hub, user string, groups ...string) *client {
	t.Helper()
	return connectAs(t, h, routed{}, user, groups...)
}

// someClaims are those of all clients here.
var someClaims = &Claims{Labels: map[string]string{"device": "phone"}}

func connectAs(t testing.TB, h *Hub, p Protocol, user string, groups ...string) *client {
	t.Helper()
	c, err := h.Attach(t.Context(), Admission{
		Namespace: DefaultNamespace, User: user, Groups: groups,
		Protocol: p, RemoteAddress: "127.0.0.1:1", Claims: someClaims,
	})
	if err != nil {
		t.Fatal(err)
	}
	cl := &client{Connection: c}
	cl.bind(t)
	return cl
}

func (c *client) bind(t testing.TB) {
	t.Helper()
	c.link = &memory{connection: c.Connection}
	if err := c.Bind(c.link); err != nil {
		t.Fatal(err)
	}
}

// resume gives the client a new link for its token.
func (c *client) resume(t testing.TB, token string) {
	t.Helper()
	c.resumeOn(t, token, &memory{connection: c.Connection})
}

// resumeOn is resume with a link of the caller's.
func (c *client) resumeOn(t testing.TB, token string, l *memory) {
	t.Helper()
	r, err := c.hub().Resume(t.Context(), DefaultNamespace, string(c.ID()), token)
	if err != nil {
		t.Fatal(err)
	}
	c.link = l
	if err := r.Bind(c.link); err != nil {
		t.Fatal(err)
	}
}

// lose takes the link away as a broken network does.
func (c *client) lose() { c.Unbind(c.link, cause.Lost.CloseStatus()) }

func text(s string) *Message {
	return &Message{Namespace: DefaultNamespace, Kind: Text, Payload: []byte(s)}
}

func send(t testing.TB, h *Hub, s *Send) *Delivery {
	t.Helper()
	d, err := h.Deliver(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func toGroup(g, s string) *Send {
	return &Send{Message: text(s), Target: Target{Groups: []string{g}}}
}

// sum checks the formula of the receipt and returns its dropped messages.
func sum(t testing.TB, r Receipt) int {
	t.Helper()
	dropped := 0
	for _, d := range r.Dropped {
		dropped += d.Count
	}
	states := []int{
		r.Pending, r.Queued, r.QueuedDetached, r.Written, r.Acked, r.InTransfer, dropped,
	}
	total := 0
	for _, n := range states {
		if n < 0 {
			t.Errorf("receipt has a negative state: %+v", r)
		}
		total += n
	}
	if total != r.Matched {
		t.Errorf("receipt does not add up: %+v", r)
	}
	return dropped
}

// numbered is a protocol as demanding as any: a per-connection prefix, two frames a message, a
// greeting with a token, acks, resume. It lives in the tests: if it needs a change in the core, the
// core is wrong.
type numbered struct{ routed }

func (numbered) Name() string { return "numbered" }

func (numbered) AppendPrefix(dst []byte, sequence uint64, _ []byte) []byte {
	return appendFrame(dst, fmt.Sprintf("#%d", sequence))
}

func (numbered) AppendGreeting(dst []byte, info Info, token string) []byte {
	return appendFrame(dst, fmt.Sprintf("hello %s %s", info.ID, token))
}

// heard reports whether anything has come.
func (l *memory) heard() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.wire) > 0
}

// token returns the resume token of the link's greeting, which must come before anything else.
func (l *memory) token(t testing.TB) string {
	t.Helper()
	var id, token string
	if _, err := fmt.Sscanf(l.frames()[0], "hello %s %s", &id, &token); err != nil {
		t.Fatalf("no greeting: %v", err)
	}
	return token
}

// numberedFrames returns the messages after the greeting, each as "sequence route:payload".
func (l *memory) numberedFrames(t testing.TB) []string {
	t.Helper()
	frames := l.frames()[1:]
	if len(frames)%2 != 0 {
		t.Fatalf("half a message on the wire: %q", frames)
	}
	var all []string
	for i := 0; i < len(frames); i += 2 {
		all = append(all, strings.TrimPrefix(frames[i], "#")+" "+frames[i+1])
	}
	return all
}

// A user that opens connections without end leaves room for different users. A namespace that does
// so leaves room for different namespaces.
func TestAHubThatIsNearlyFullTakesThoseWhoHaveLittle(t *testing.T) {
	const most, reserved = 320, 320 / reservedShare
	h := newHub(t, func(c *Config) { c.MaxConnections = most })
	attach := func(namespace, user string) bool {
		c, err := h.Attach(
			t.Context(), Admission{Namespace: namespace, User: user, Protocol: bare{}},
		)
		if err != nil && !errors.Is(err, ErrTooManyConnections) {
			t.Fatal(err)
		}
		if err == nil {
			t.Cleanup(func() { c.Close(cause.Client.CloseStatus()) })
		}
		return err == nil
	}
	flood := 0
	for attach("default", "flood") {
		flood++
	}
	if flood != most-reserved {
		t.Errorf("one user has %d connections, want %d", flood, most-reserved)
	}
	for i := range reserved {
		switch user := fmt.Sprint("quiet ", i/2); {
		case i < reserved/2 && !attach("default", user):
			t.Errorf("connection %d: a user with few connections is refused", i)
		case i >= reserved/2 && !attach("other", user):
			t.Errorf("connection %d: a namespace with few connections is refused", i)
		case attach("default", "flood"):
			t.Errorf("connection %d: one user takes what is left", i)
		case i > reserved/2 && h.Len() < most && attach("default", ""):
			t.Errorf("connection %d: one namespace takes what is left", i)
		}
	}
	if h.Len() != most || attach("other", "") {
		t.Errorf("%d connections, want %d and no more", h.Len(), most)
	}
}

// No part of the reserve stays empty: users with a few connections each fill the hub.
func TestUsersWithFewConnectionsFillTheHub(t *testing.T) {
	const most = 64
	h := newHub(t, func(c *Config) { c.MaxConnections = most })
	for i := range most {
		a := Admission{
			Namespace: DefaultNamespace,
			Protocol:  bare{}, RemoteAddress: fmt.Sprintf("10.0.0.%d:%d", i/8, i),
		}
		if i%2 == 1 {
			a.User = fmt.Sprint(i / 4)
		}
		c, err := h.Attach(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(cause.Client.CloseStatus())
	}
	if _, err := h.Attach(
		t.Context(), Admission{Namespace: DefaultNamespace, Protocol: bare{}},
	); !errors.Is(err, ErrTooManyConnections) {
		t.Errorf("one more: %v", err)
	}
}

// Clients without a user are one user at each address: the last room of a nearly full hub is for
// others.
func TestClientsWithoutAUserShareTheConnectionsOfOneAtAnAddress(t *testing.T) {
	const most, reserved = 320, 320 / reservedShare
	h := newHub(t, func(c *Config) { c.MaxConnections = most })
	ports := 0
	attach := func(user, host string) bool {
		ports++
		c, err := h.Attach(t.Context(), Admission{
			Namespace: DefaultNamespace, User: user, Protocol: bare{},
			RemoteAddress: fmt.Sprintf("%s:%d", host, ports),
		})
		if err == nil {
			t.Cleanup(func() { c.Close(cause.Client.CloseStatus()) })
		}
		return err == nil
	}
	flood := 0
	for attach("", "10.0.0.1") {
		flood++
	}
	if flood != most-reserved {
		t.Errorf("clients without a user have %d connections at one address, want %d",
			flood, most-reserved)
	}
	if !attach("", "10.0.0.2") || !attach("ann", "10.0.0.1") {
		t.Error("another address, or a user, is refused while some are left")
	}
	if attach("", "10.0.0.1") {
		t.Error("clients without a user take what is left at one address")
	}
}
