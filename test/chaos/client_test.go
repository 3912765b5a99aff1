package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/chaos/verdict"
)

const (
	plainProtocol = "json.connhub.v1"

	// patienceOfClient is the silence after which a client gives its link up. It doubles with each
	// link that says nothing, up to mostPatience: on a busy machine a link may take long.
	patienceOfClient = 2 * time.Second
	mostPatience     = time.Minute
	keepEvery        = 100 * time.Millisecond // between pings, and between acks
	publishEvery     = 5                      // keepEvery between publishes of a client
	longestRetry     = 200                    // ms between two handshakes
	longestStay      = 4000                   // ms that a reliable client stays at a hub
	policyViolation  = 1008                   // RFC 6455 §7.4.1: the client begins anew
	tokenTTL         = 24 * time.Hour
)

// client connects, comes back at a random hub after each loss, and records all that it gets. A
// reliable client also drops its link itself now and then, as one that changes its network does.
type client struct {
	run    *run
	index  int
	spec   verdict.Client
	path   string
	random *rand.Rand // owned by live

	patience time.Duration // owned by live
	token    string        // reconnection token of the connection; owned by live

	// pending is the latest publish if it has no ack, else 0. Its ack id is its number.
	pending int // guarded by mu

	mu     sync.Mutex
	id     string // of the connection; empty: none
	linked bool
	first  int          // number of the link that began the connection
	since  int          // size of the record when the connection was known
	heard  map[int]bool // sends that the connection has got
}

// state returns the connection, and whether it has a link.
func (c *client) state() (id string, isLinked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id, c.linked
}

// hasHeardAny reports whether the present connection has got any of some sends.
func (c *client) hasHeardAny(sends []int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(sends, func(n int) bool { return c.heard[n] })
}

// isYoungerThan reports whether the client has its connection since the record had a size.
func (c *client) isYoungerThan(size int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.id != "" && c.since > size
}

// live connects again and again until the context ends.
func (c *client) live(ctx context.Context) {
	c.patience = patienceOfClient
	for ctx.Err() == nil {
		at := c.run.places[c.random.IntN(len(c.run.places))]
		if !c.useLink(ctx, at) {
			pause(ctx, milliseconds(c.random, 1, longestRetry))
		}
	}
}

// useLink connects at a place, and reads until the link is over. It reports whether the hub said
// anything.
func (c *client) useLink(ctx context.Context, at *place) (isUsed bool) {
	resumed, _ := c.state()
	l := &clientLink{
		client: c, number: c.run.record.nextNumber(&c.run.record.links), resumed: resumed,
		hub: at.current().Hub, over: make(chan struct{}),
	}
	l.add(verdict.Event{Kind: verdict.Dialled, Hub: l.hub, Connection: resumed})
	if err := l.dial(ctx, at.clients.Address); err != nil {
		l.add(verdict.Event{Kind: verdict.Failed})
		c.doublePatience()
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = l.wire.Conn.Close() })
	defer stop()
	if c.spec.Reliable {
		stay := milliseconds(c.random, 1, longestStay)
		defer time.AfterFunc(stay, func() { _ = l.wire.Conn.Close() }).Stop()
	}
	var keeping sync.WaitGroup
	keeping.Go(l.keepAlive)
	err := l.readAll()
	close(l.over)
	_ = l.wire.Conn.Close()
	keeping.Wait()
	l.end(err)
	if l.connection == "" {
		c.doublePatience()
		return false
	}
	c.patience = patienceOfClient
	return true
}

func (c *client) doublePatience() { c.patience = min(2*c.patience, mostPatience) }

// clientLink is a link of a client, and its handshake.
type clientLink struct {
	client  *client
	number  int
	hub     string // that it dials
	resumed string // connection that it resumes
	wire    *bed.Client
	over    chan struct{}

	connection string // that it carries; empty: none yet; owned by the reader

	mu     sync.Mutex
	latest int64 // sequence id to acknowledge
	told   int64 // sequence id that is acknowledged
}

// add records an event of the link.
func (l *clientLink) add(e verdict.Event) {
	e.Client, e.Link = l.client.index, l.number
	l.client.run.record.add(e)
}

// dial shakes hands within the client's patience.
func (l *clientLink) dial(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, l.client.patience)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	path, protocol := l.client.path, plainProtocol
	if l.client.spec.Reliable {
		protocol = bed.Reliable
	}
	if l.resumed != "" {
		path += "&" + bed.ResumeQuery(l.resumed, l.client.token)
	}
	l.wire, err = bed.NewClient(conn, address, path, protocol)
	return err
}

// keepAlive sends pings, the acknowledgements that are due, and publishes of a reliable client.
func (l *clientLink) keepAlive() {
	turn := 0
	ticker := time.NewTicker(keepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.over:
			return
		}
		l.mu.Lock()
		_, err := l.wire.Conn.Write(bed.MaskedFrame(bed.OpPing, nil))
		l.mu.Unlock()
		if err == nil {
			err = l.acknowledge()
		}
		if turn++; err == nil && l.client.spec.Reliable && turn%publishEvery == 0 {
			err = l.publishNext()
		}
		if err != nil {
			return // the reader finds out
		}
	}
}

// publishNext publishes a message to the client's own group, if the client has its connection and
// the ack of the message before.
func (l *clientLink) publishNext() error {
	c := l.client
	c.mu.Lock()
	if !c.linked || c.pending > 0 {
		c.mu.Unlock()
		return nil
	}
	c.pending = c.run.record.nextNumber(&c.run.record.sends)
	c.mu.Unlock()
	return l.publish()
}

// publish publishes the pending message, perhaps again.
func (l *clientLink) publish() error {
	c := l.client
	c.mu.Lock()
	connection, pending := c.id, c.pending
	c.mu.Unlock()
	if pending == 0 {
		return nil
	}
	group := c.spec.Groups[0]
	l.add(verdict.Event{
		Kind: verdict.Published, Connection: connection, Send: pending,
		Target: verdict.Target{Group: group},
	})
	text := fmt.Sprintf(
		`{"type":"sendToGroup","group":%q,"ackId":%d,"dataType":"text","data":"%d"}`,
		group, pending, pending,
	)
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.wire.Conn.Write(bed.MaskedFrame(bed.OpText, []byte(text)))
	return err
}

// takeAck takes the ack of the pending message.
func (l *clientLink) takeAck(m received) error {
	c := l.client
	if !m.Success && m.Error.Name != "Duplicate" {
		return fmt.Errorf("publish %d: %s", m.AckID, m.Error.Name)
	}
	c.mu.Lock()
	isPending := c.pending == m.AckID
	if isPending {
		c.pending = 0
	}
	c.mu.Unlock()
	if isPending {
		l.add(verdict.Event{Kind: verdict.Confirmed, Connection: l.connection, Send: m.AckID})
	}
	return nil
}

// acknowledge confirms all messages, unless that is done.
func (l *clientLink) acknowledge() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.latest == l.told {
		return nil
	}
	l.told = l.latest
	text := fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, l.latest)
	_, err := l.wire.Conn.Write(bed.MaskedFrame(bed.OpText, []byte(text)))
	return err
}

// readAll reads until the link is over, and returns the reason.
func (l *clientLink) readAll() error {
	for {
		deadline := time.Now().Add(l.client.patience)
		if err := l.wire.Conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		opcode, payload, err := l.wire.ReadFrame(nil)
		if err != nil {
			return err
		}
		switch opcode {
		case bed.OpText:
			err = l.takeMessage(payload)
		case bed.OpPing:
			l.mu.Lock()
			_, err = l.wire.Conn.Write(bed.MaskedFrame(bed.OpPong, payload))
			l.mu.Unlock()
		case bed.OpPong:
		case bed.OpClose:
			_, _ = l.wire.Conn.Write(bed.MaskedFrame(bed.OpClose, payload[:2]))
			return bed.ParseClose(payload)
		default:
			err = fmt.Errorf("frame with opcode %#x", opcode)
		}
		if err != nil {
			return err
		}
	}
}

// received is a message of both protocols.
type received struct {
	Type              string `json:"type"`
	Event             string `json:"event"`
	ConnectionID      string `json:"connectionId"`
	ReconnectionToken string `json:"reconnectionToken"`
	SequenceID        int64  `json:"sequenceId"`
	AckID             int    `json:"ackId"`
	Success           bool   `json:"success"`
	Error             struct {
		Name string `json:"name"`
	} `json:"error"`
	Data json.RawMessage `json:"data"`
}

func (l *clientLink) takeMessage(payload []byte) error {
	var m received
	if err := json.Unmarshal(payload, &m); err != nil {
		return err
	}
	switch {
	case m.Type == "connected", m.Type == "system" && m.Event == "connected":
		l.takeConnected(m)
		return l.publish()
	case m.Type == "ack":
		return l.takeAck(m)
	case m.Type == "message":
		return l.takeSend(m)
	}
	return nil
}

// takeConnected begins or resumes a connection.
func (l *clientLink) takeConnected(m received) {
	c := l.client
	l.connection = m.ConnectionID
	l.add(verdict.Event{Kind: verdict.Connected, Connection: l.connection})
	if m.ReconnectionToken != "" {
		c.token = m.ReconnectionToken
	}
	size := c.run.record.size()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.id != l.connection {
		c.id, c.first, c.since, c.heard = l.connection, l.number, size, map[int]bool{}
		c.pending = 0 // the connection before may have published it
	}
	c.linked = true
}

// takeSend records a message, and acknowledges it now or with the next ping.
func (l *clientLink) takeSend(m received) error {
	c := l.client
	var text string
	if err := json.Unmarshal(m.Data, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	l.add(verdict.Event{
		Kind: verdict.Arrived, Connection: l.connection, Send: n, Sequence: m.SequenceID,
	})
	c.mu.Lock()
	c.heard[n] = true
	c.mu.Unlock()
	if m.SequenceID == 0 {
		return nil
	}
	l.mu.Lock()
	l.latest = m.SequenceID
	l.mu.Unlock()
	if c.index%2 == 0 {
		return l.acknowledge()
	}
	return nil
}

// end records the end of the link. err is the reason.
func (l *clientLink) end(err error) {
	c := l.client
	closed, isClosed := errors.AsType[bed.ClosedError](err)
	isRefused := l.connection == "" && l.resumed != "" && closed.Code == policyViolation
	isOver := !c.spec.Reliable || closed.Code == policyViolation
	switch {
	case isRefused:
		l.add(verdict.Event{Kind: verdict.Refused, Connection: l.resumed, Hub: l.hub})
	case l.connection == "":
		l.add(verdict.Event{Kind: verdict.Failed})
		isOver = false
	default:
		e := verdict.Event{Kind: verdict.Lost, Connection: l.connection}
		if isClosed {
			e.Code = int(closed.Code)
		}
		l.add(e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linked = false
	if isOver {
		c.id = ""
	}
}

// issueToken returns the path at which a client connects.
func issueToken(ctx context.Context, h *hub, spec verdict.Client) (string, error) {
	token, err := controlv1.NewAccessServiceClient(h.backends[0]).IssueClientToken(ctx,
		&controlv1.IssueClientTokenRequest{
			User: spec.User, Groups: spec.Groups, Ttl: durationpb.New(tokenTTL),
			Roles: []string{"webpubsub.sendToGroup"},
		})
	if err != nil {
		return "", err
	}
	where, err := url.Parse(token.GetUrl())
	if err != nil {
		return "", err
	}
	return where.RequestURI(), nil
}
