package strangers

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	strangersAtOnce = 8
	steadyClients   = 100
	steadyMessages  = 1_000

	// strangerLimit bounds the stay of a stranger.
	strangerLimit = 2 * time.Second
)

// strangers is the number of strangers at each port: a multiple of the messages that are sent
// meanwhile, over all ports.
func strangers() int { return bed.Either(3000, 10_000) }

// TestStrangersOnEachPort proves that strangers disturb no client. While thousands of random and
// almost valid byte streams arrive on every port, clients get all messages for them. When the
// strangers are gone, they have left neither a goroutine nor a file behind.
func TestStrangersOnEachPort(t *testing.T) {
	t.Parallel()
	p := bed.StartAlone(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ports := portsOf(t, p)

	clients := steady(t, p)
	delivery := controlv1.NewDeliveryServiceClient(bed.DialControl(t, p.Control))
	sendSteadily(t, delivery, 0)
	before := p.Vitals(t)

	// A message for every so many strangers, so that both work during the whole test.
	turn := make(chan struct{}, steadyMessages)
	var sending sync.WaitGroup
	sending.Go(func() {
		n := 0
		for range turn {
			n++
			sendSteadily(t, delivery, n)
		}
	})
	visit(t, ports, seed, turn)
	close(turn)
	sending.Wait()

	for _, c := range clients {
		if err := c.await(t); err != nil {
			t.Error(err)
		}
	}
	after := p.CalmVitals(t, before)
	if after.Goroutines > before.Goroutines || after.Files > before.Files {
		t.Errorf("after the strangers the hub has %+v, before them it had %+v\n%s",
			after, before, p.Get(t, "/debug/pprof/goroutine?debug=1"))
	}
	t.Logf("before %+v, after %+v", before, after)
	p.Get(t, "/readyz")
	p.Get(t, "/debug/invariants")
}

// port is a port of the hub, with valid phrases of its rightful users.
type port struct {
	address string
	phrases [][]byte
}

func portsOf(t *testing.T, p *bed.Process) []port {
	t.Helper()
	return []port{
		{p.Clients, clientPhrases(p.Clients)},
		{p.Control, controlPhrases(t, p.Control)},
		{p.Ops, opsPhrases(p.Ops)},
	}
}

// clientPhrases are handshakes, alone and with frames behind them, and requests for the page.
func clientPhrases(address string) [][]byte {
	const fin, masked = bed.FinBit, bed.MaskBit
	text := bed.MaskedFrame(bed.OpText, []byte("Grüße"))
	fragment := bed.MaskedFrame(bed.OpText, []byte("first half"))
	fragment[0] &^= fin
	frames := [][]byte{
		text,
		bed.MaskedFrame(bed.OpBinary, []byte{0, 1, 2, 0xff}),
		bed.MaskedFrame(bed.OpPing, []byte("ping")),
		bed.MaskedFrame(bed.OpPong, nil),
		bed.MaskedFrame(bed.OpClose, []byte("\x03\xe8bye")),
		append(fragment, bed.MaskedFrame(0, []byte("second half"))...),
		bed.MaskedFrame(bed.OpText, []byte{0xff, 0xfe}),       // no UTF-8
		{fin | bed.OpText, 5, 'p', 'l', 'a', 'i', 'n'},        // not masked
		{fin | bed.OpText, masked | 127, 0x7f, 0xff},          // endless
		{0xf0 | bed.OpText, masked | 1, 0, 0, 0, 0, 'x'},      // reserved bits
		{bed.OpPing, masked | 126, 1, 0, 0, 0, 0, 0},          // a large fragmented ping
		{fin | 0x3, masked, 0, 0, 0, 0},                       // unknown opcode
		{fin | bed.OpText, masked | 126, 0x10, 0, 0, 0, 0, 0}, // half a message
	}
	upgrade := []byte(
		bed.UpgradeRequest(address, "/client/hubs/default?user=stranger&group=strangers", ""),
	)
	enveloped := []byte(bed.UpgradeRequest(address, "/ws?user=stranger", "json.connhub.v1"))
	phrases := [][]byte{
		upgrade, enveloped,
		[]byte("GET / HTTP/1.1\r\nHost: " + address + "\r\n\r\n"),
		[]byte("GET /client/hubs/default HTTP/1.1\r\nHost: " +
			address + "\r\nX-Long: " + strings.Repeat("x", 20<<10) + "\r\n\r\n"),
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), // TLS
	}
	for _, f := range frames {
		phrases = append(phrases, slices.Concat(upgrade, f), slices.Concat(enveloped, text, f, f))
	}
	return phrases
}

// opsPhrases are the requests of scrapers and probes.
func opsPhrases(address string) [][]byte {
	var phrases [][]byte
	for _, path := range []string{
		"/metrics", "/healthz", "/readyz", "/debug/invariants", "/debug/pprof/", "/", "/%2e%2e/",
	} {
		request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\n"
		phrases = append(phrases,
			[]byte(request+"\r\n"),
			[]byte(request+"Authorization: Bearer "+strings.Repeat("secret", 6)+"\r\n\r\n"),
			[]byte(strings.Replace(request, "GET", "POST", 1)+
				"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"))
	}
	return phrases
}

// controlPhrases are calls of a gRPC client, recorded on their way to the hub. None matches any
// member.
func controlPhrases(t *testing.T, address string) [][]byte {
	t.Helper()
	nobody := &controlv1.Target{Users: []string{"nobody"}}
	calls := []func(e *ear){
		func(e *ear) {
			_, err := controlv1.NewHubServiceClient(bed.DialControl(t, e.address)).ListHubs(
				t.Context(), &controlv1.ListHubsRequest{},
			)
			bed.Report(t, err)
		},
		func(e *ear) {
			_, err := controlv1.NewDeliveryServiceClient(
				bed.DialControl(t, e.address),
			).Send(t.Context(), &controlv1.SendRequest{
				Target: nobody, Message: &controlv1.Message{
					Payload: &controlv1.Message_Json{Json: `{"to":"nobody"}`},
				},
			})
			bed.Report(t, err)
		},
		func(e *ear) {
			_, err := controlv1.NewGroupServiceClient(
				bed.DialControl(t, e.address),
			).AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
				Target: nobody, Groups: []string{"a", "b"},
			})
			bed.Report(t, err)
		},
	}
	phrases := [][]byte{
		[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
	}
	for _, call := range calls {
		e := overhear(t, address)
		call(e)
		phrases = append(phrases, e.heard())
	}
	return phrases
}

// ear forwards a connection, and keeps the client's bytes.
type ear struct {
	address string

	mu   sync.Mutex
	said []byte
}

// overhear records a single connection to the address, until the test ends.
func overhear(t *testing.T, address string) *ear {
	t.Helper()
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{address: door.Addr().String()}
	var passing sync.WaitGroup
	passing.Go(func() {
		defer door.Close()
		inner, err := door.Accept()
		if err != nil {
			return
		}
		outer, err := net.Dial("tcp", address)
		if err != nil {
			_ = inner.Close()
			return
		}
		passing.Go(func() {
			_, _ = io.Copy(inner, outer)
			_ = inner.Close()
		})
		_, _ = io.Copy(outer, io.TeeReader(inner, e))
		_ = outer.Close()
	})
	t.Cleanup(func() {
		_ = door.Close()
		passing.Wait()
	})
	return e
}

// Write keeps the forwarded bytes.
func (e *ear) Write(b []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.said = append(e.said, b...)
	return len(b), nil
}

func (e *ear) heard() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.said)
}

// visit sends the strangers to the ports. turn hears when it is another message's turn.
func visit(t *testing.T, ports []port, seed uint64, turn chan<- struct{}) {
	t.Helper()
	var visitors sync.WaitGroup
	var come atomic.Int64
	total := strangers() * len(ports)
	every := total / steadyMessages
	for i := range strangersAtOnce {
		visitors.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := int(come.Add(1)); n < total; n = int(come.Add(1)) {
				if n%every == 0 {
					turn <- struct{}{}
				}
				to := ports[n%len(ports)]
				if err := stranger(random, to.address, utterance(random, to.phrases)); err != nil {
					t.Errorf("stranger %d: %v", n, err)
					return
				}
			}
		})
	}
	visitors.Wait()
}

// utterance returns the bytes of a stranger: noise, a valid phrase, or an almost valid phrase.
func utterance(random *rand.Rand, phrases [][]byte) []byte {
	if random.IntN(4) == 0 {
		return noise(random, random.IntN(4<<10))
	}
	said := slices.Clone(phrases[random.IntN(len(phrases))])
	if random.IntN(10) == 0 {
		return said
	}
	for range 1 + random.IntN(4) {
		said = garble(random, said, phrases)
	}
	return said
}

func noise(random *rand.Rand, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// garble makes a mistake.
func garble(random *rand.Rand, b []byte, phrases [][]byte) []byte {
	if len(b) == 0 {
		return noise(random, 8)
	}
	at := random.IntN(len(b))
	if random.IntN(2) == 0 {
		// where the frames are, behind a valid handshake
		at = len(b) - 1 - random.IntN(min(len(b), 64))
	}
	end := min(len(b), at+1+random.IntN(16))
	switch random.IntN(7) {
	case 0: // a single bit
		b[at] ^= 1 << random.IntN(8)
	case 1: // another byte
		b[at] = byte(random.Uint32())
	case 2: // too little
		b = slices.Delete(b, at, end)
	case 3: // too much
		b = slices.Insert(b, at, noise(random, 1+random.IntN(16))...)
	case 4: // twice
		b = slices.Insert(b, at, slices.Clone(b[at:end])...)
	case 5: // broken off
		b = b[:at]
	case 6: // and then something else
		other := phrases[random.IntN(len(phrases))]
		b = append(b[:at:at], other[random.IntN(len(other)):]...)
	}
	return b
}

// stranger connects, sends something in pieces, perhaps listens, and disconnects in one of all
// possible ways. Only a refused connection is an error.
func stranger(random *rand.Rand, address string, says []byte) error {
	conn, err := net.DialTimeout("tcp", address, bed.HandshakeLimit)
	if err != nil {
		return err
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	_ = tcp.SetDeadline(time.Now().Add(strangerLimit))
	for len(says) > 0 {
		n := 1 + random.IntN(len(says))
		if _, err := tcp.Write(says[:n]); err != nil {
			return nil // thrown out, as it should be
		}
		says = says[n:]
	}
	switch random.IntN(4) {
	case 0: // hears it out
		_ = tcp.CloseWrite()
		_, _ = io.Copy(io.Discard, tcp)
	case 1: // hears the beginning; the answer to valid bytes may be silence
		_ = tcp.SetReadDeadline(time.Now().Add(time.Millisecond))
		_, _ = tcp.Read(make([]byte, 512))
	case 2: // slams the door
		_ = tcp.SetLinger(0)
	case 3: // just goes
	}
	return nil
}

// steadyClient is a client that the strangers must not disturb.
type steadyClient struct {
	name    string
	numbers []string // owned by its goroutine until all is closed
	all     chan struct{}
}

// steady connects the clients, which read until the test ends.
func steady(t *testing.T, p *bed.Process) []*steadyClient {
	t.Helper()
	var reading sync.WaitGroup
	t.Cleanup(reading.Wait)
	var clients []*steadyClient
	for i := range steadyClients {
		c := &steadyClient{name: fmt.Sprint("steady-", i), all: make(chan struct{})}
		path := "/client/hubs/steady?group=steady&user=" + c.name
		conn, err := bed.DialClient(t.Context(), net.Dialer{}, p.Clients, path, "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Conn.Close() })
		reading.Go(func() { _ = conn.Read(c.take) })
		clients = append(clients, c)
	}
	return clients
}

func (c *steadyClient) take(message []byte) {
	c.numbers = append(c.numbers, string(message))
	if len(c.numbers) == steadyMessages {
		close(c.all)
	}
}

// await holds that the client gets every message, once and in order.
func (c *steadyClient) await(t *testing.T) error {
	t.Helper()
	testkit.Receive(t, c.name+" gets all messages", c.all)
	for i, got := range c.numbers[:steadyMessages] {
		if got != fmt.Sprint(i) {
			return fmt.Errorf("%s: message %d is %q", c.name, i, got)
		}
	}
	return nil
}

// sendSteadily sends the message with that number to all steady clients.
func sendSteadily(t *testing.T, delivery controlv1.DeliveryServiceClient, n int) {
	t.Helper()
	response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
		Namespace: "steady",
		Target:    &controlv1.Target{Groups: []string{"steady"}},
		Message:   &controlv1.Message{Payload: &controlv1.Message_Text{Text: fmt.Sprint(n)}},
	})
	if err != nil || response.GetReceipt().GetMatched() != steadyClients {
		t.Errorf("send %d: %v, %v", n, response, err)
	}
}
