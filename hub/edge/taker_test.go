package edge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/hub/transfer"
)

// mover is the Taker of a hub that may take the connections of a single other hub. It moves them in
// process.
type mover struct {
	from, to *hub.Hub
	edge     *edge.Server // at to

	// before is called before a move, after after it; both may be nil. An error of before is that
	// of Take.
	before func(context.Context) error
	after  func(hub.ConnectionID)

	turn  chan struct{} // of capacity 1: one connection is asked for and moved at a time
	mu    sync.Mutex
	calls []hub.ConnectionID
}

var _ edge.Taker = (*mover)(nil)

// Take implements edge.Taker.
func (m *mover) Take(
	ctx context.Context, namespace string, id hub.ConnectionID, token string,
) error {
	m.mu.Lock()
	m.calls = append(m.calls, id)
	m.mu.Unlock()
	if m.before != nil {
		if err := m.before(ctx); err != nil {
			return err
		}
	}
	// Two takes of one connection find it at one of the two hubs, never at neither.
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	if _, err := m.to.Resume(ctx, namespace, string(id), token); err == nil {
		return nil // it is here already
	}
	_, err := m.from.Resume(ctx, namespace, string(id), token)
	if errors.Is(err, transfer.ErrMoving) {
		return err
	}
	if err != nil {
		return hub.ErrResumeRefused
	}
	if err := m.move(ctx, id); err != nil {
		return err
	}
	if m.after != nil {
		m.after(id)
	}
	return nil
}

// move moves a connection from hub to hub. See hub.Moves.
func (m *mover) move(ctx context.Context, id hub.ConnectionID) error {
	from, to := m.from.Moves(), m.to.Moves()
	s, err := from.Freeze(ctx, id, m.to.ID())
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	speaks, ok := m.edge.ProtocolNamed(s.Protocol)
	if !ok {
		return fmt.Errorf("the new hub has no protocol %q", s.Protocol)
	}
	if err := to.Adopt(s, s.Epoch+1, speaks); err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	last, err := from.Seal(id)
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	for _, op := range last {
		if err := to.Apply(id, op); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
	}
	if err := to.Commit(id); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	_, err = from.Release(id, cause.Shutdown.CloseStatus())
	return err
}

// called returns how often Take was called.
func (m *mover) called() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.calls)
}

// pair is an old hub, whose clients the test connects, and a new hub that takes from it.
type pair struct {
	old, new *bed
	mover    *mover
}

// onPair runs a test in a bubble with two hubs.
func onPair(t *testing.T, test func(t *testing.T, p *pair), setups ...setup) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{mover: &mover{turn: make(chan struct{}, 1)}}
		p.old = p.newHub(t, nil, setups)
		defer p.old.done()
		p.new = p.newHub(t, p.mover, setups)
		defer p.new.done()
		p.mover.from, p.mover.to, p.mover.edge = p.old.hub, p.new.hub, p.new.edge
		test(t, p)
	})
}

func (p *pair) newHub(t *testing.T, taker edge.Taker, setups []setup) *bed {
	t.Helper()
	l, publisher := newMemory(), &here{}
	b := newBed(t, l, l.dial, append([]setup{func(_ *hub.Config, c *edge.Config) {
		c.Protocols, c.Taker = webpubsub.Protocols(publisher), taker
	}}, setups...)...)
	publisher.hub = b.hub
	return b
}

// strand connects a client to the old hub, and ends its link. The client comes back to the new hub.
func (p *pair) strand(t *testing.T) *pubsub {
	t.Helper()
	c := p.old.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
	c.drop()
	c.bed = p.new
	return c
}

// asks sends the request of a client that comes back to the new hub, and returns when the hub has
// answered or the client waits.
func (p *pair) asks(c *pubsub, rest string) *raw {
	_, query, _ := strings.Cut(c.recovery(), "?")
	return p.new.asks(query, reliably+rest)
}

// noCompression is the end of a request that offers none.
const noCompression = ""

// wantTakes checks that no take is under way, and how many takes ended with a result.
func (p *pair) wantTakes(t *testing.T, result string, want uint64) {
	t.Helper()
	if n := p.new.metric("connhub_takes"); n != 0 {
		t.Errorf("%v takes are under way", n)
	}
	families, err := p.new.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "connhub_take_seconds" && m.GetLabel()[0].GetValue() == result {
				if n := m.GetHistogram().GetSampleCount(); n != want {
					t.Errorf("%d takes are %s, want %d", n, result, want)
				}
				return
			}
		}
	}
	t.Errorf("no takes are counted as %s", result)
}

// TestAClientComesBackToAnotherHub, and has its tail, its groups and its messages from meanwhile.
// They are in the framing to which its first link agreed.
func TestAClientComesBackToAnotherHub(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed=%t", compressed), func(t *testing.T) {
			onPair(t, func(t *testing.T, p *pair) {
				c := p.old.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
				c.say(`{"type":"joinGroup","group":"g","ackId":1}`)
				c.want(`{"type":"ack","ackId":1,"success":true}`)
				p.old.send(everyone, hub.Text, "one")
				p.old.send(everyone, hub.Text, long)
				c.want(numbered(1, "one"), numbered(2, long))
				c.say(acknowledge(1))
				synctest.Wait()
				c.drop()
				p.old.send(everyone, hub.Text, "absent")
				c.bed = p.new
				c.back()
				c.want(numbered(2, long), numbered(3, "absent"))
				c.say(`{"type":"sendToGroup","group":"g","data":1}`)
				c.want(`{"sequenceId":4,"type":"message","from":"group","group":"g",` +
					`"fromUserId":"ann","dataType":"json","data":1}`)
				c.drop()
				c.back() // it is at this hub now
				c.want(numbered(2, long), numbered(3, "absent"))
				if p.old.hub.Len() != 0 || p.new.hub.Len() != 1 || p.mover.called() != 1 {
					t.Errorf("%d and %d connections after %d takes",
						p.old.hub.Len(), p.new.hub.Len(), p.mover.called())
				}
				p.wantTakes(t, "here", 1)
				deflated := p.new.metric("connhub_deflate_output_bytes_total") > 0
				if deflated != compressed {
					t.Errorf("the new hub compresses: %t", deflated)
				}
			}, func(_ *hub.Config, c *edge.Config) { c.Compression = compressed })
		})
	}
}

// TestAConnectionIsFramedAsItsClientReadsIt, whatever its new hub does for new clients. A client
// without compression can't read a connection with compression, as at a single hub.
func TestAConnectionIsFramedAsItsClientReadsIt(t *testing.T) {
	for name, tc := range map[string]struct{ atOld, offered, atNew, back bool }{
		"the new hub compresses, the old does not": {false, true, true, true},
		"the old hub compresses, the new does not": {true, true, false, true},
		"the client offers nothing any more":       {true, false, true, false},
		"the client offers nothing, nor needs to":  {false, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			hubs := 0
			onPair(t, func(t *testing.T, p *pair) {
				c := p.strand(t)
				p.old.send(everyone, hub.Text, long)
				rest := noCompression
				if tc.offered {
					rest = strings.TrimSuffix(offer, "\r\n")
				}
				r := p.asks(c, rest)
				a := r.wantStatus(101, time.Now(), 0)
				agreed := a.header.Get("Sec-WebSocket-Extensions") != ""
				if agreed != (tc.back && tc.atOld) {
					t.Errorf("the hub agrees to compression: %t", agreed)
				}
				if !tc.back {
					r.wantEnd(1008, "the connection can't be resumed")
					return
				}
				if greeting, _ := r.text(); !strings.Contains(greeting, c.id) {
					t.Errorf("greeted with %s", greeting)
				}
				if got, compressed := r.text(); got != numbered(1, long) || compressed != tc.atOld {
					t.Errorf("got %s, compressed: %t", got, compressed)
				}
			}, func(_ *hub.Config, c *edge.Config) {
				c.Compression = []bool{tc.atOld, tc.atNew}[hubs]
				hubs++
			})
		})
	}
}

// TestAClientThatCannotHaveItsConnectionIsToldByAClose. Only a request that may be that of a
// connection's client is worth a take.
func TestAClientThatCannotHaveItsConnectionIsToldByAClose(t *testing.T) {
	for name, tc := range map[string]struct {
		change      func(c *pubsub)
		subprotocol string
		takes       int
	}{
		"wrong token": {func(c *pubsub) { c.token = strings.Repeat("A", len(c.token)) }, "", 1},
		"closed": {func(*pubsub) {
			time.Sleep(time.Minute + time.Second) // the bubble's clock
		}, "", 1},
		"another namespace": {func(c *pubsub) {
			c.url = "ws://hub.test/client/hubs/other?"
		}, "", 1},
		"made up": {func(c *pubsub) {
			c.id = "abcdefgh." + strings.Repeat("x", 25)
		}, "", 0},
		"no token":            {func(c *pubsub) { c.token = "" }, "", 0},
		"another subprotocol": {func(*pubsub) {}, webpubsub.NameJSON, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onPair(t, func(t *testing.T, p *pair) {
				c := p.strand(t)
				tc.change(c)
				before, _ := p.new.edge.Room()
				subprotocol := webpubsub.NameReliableJSON
				if tc.subprotocol != "" {
					subprotocol = tc.subprotocol
				}
				c.open(c.recovery(), subprotocol)
				wantClose(t, c.Conn, websocket.StatusPolicyViolation,
					"the connection can't be resumed")
				if n := p.mover.called(); n != tc.takes {
					t.Errorf("%d takes, want %d", n, tc.takes)
				}
				p.wantTakes(t, "refused", uint64(tc.takes))
				if left, _ := p.new.edge.Room(); before-left != tc.takes {
					t.Errorf("the client took %d turns of the connect rate", before-left)
				}
			})
		})
	}
}

// TestAClientIsToldToAskAgainWhileNoHubCanTell, before the upgrade: SDKs repeat then.
func TestAClientIsToldToAskAgainWhileNoHubCanTell(t *testing.T) {
	errUnreachable := errors.New("the holder can't be reached")
	for name, tc := range map[string]struct {
		prepare func(p *pair, c *pubsub)
		after   time.Duration
		result  string
	}{
		"unreachable holder": {func(p *pair, _ *pubsub) {
			p.mover.before = func(context.Context) error { return errUnreachable }
		}, 0, "unknown"},
		"holder that does not answer": {func(p *pair, _ *pubsub) {
			p.mover.before = func(ctx context.Context) error {
				<-ctx.Done()
				return ctx.Err()
			}
		}, 5 * time.Second, "unknown"},
		"moves already": {func(p *pair, c *pubsub) {
			_, err := p.old.hub.Moves().Freeze(p.old.t.Context(), hub.ConnectionID(c.id),
				"elsewhere")
			if err != nil {
				p.old.t.Fatal(err)
			}
		}, 0, "unknown"},
		"moves away again": {func(p *pair, _ *pubsub) {
			p.mover.after = func(id hub.ConnectionID) {
				if _, err := p.new.hub.Moves().Freeze(p.new.t.Context(), id,
					"elsewhere"); err != nil {
					p.new.t.Error(err)
				}
			}
		}, 0, "here"},
		"has moved away again": {func(p *pair, _ *pubsub) {
			p.mover.after = func(id hub.ConnectionID) {
				back := &mover{from: p.new.hub, to: p.old.hub, edge: p.old.edge}
				if err := back.move(p.new.t.Context(), id); err != nil {
					p.new.t.Error(err)
				}
			}
		}, 0, "here"},
	} {
		t.Run(name, func(t *testing.T) {
			onPair(t, func(t *testing.T, p *pair) {
				c := p.strand(t)
				tc.prepare(p, c)
				began := time.Now()
				a := p.asks(c, noCompression).wantStatus(503, began, tc.after)
				wantReason(t, a, "CONNECTION_ELSEWHERE")
				wantRetry(t, a.header, 1, 3)
				p.wantTakes(t, tc.result, 1)
				for _, b := range []*bed{p.old, p.new} { // so that both can rest
					_ = b.hub.Moves().Thaw(hub.ConnectionID(c.id))
				}
				p.mover.before, p.mover.after = nil, nil
				c.back()
			})
		})
	}
}

// TestAClientFindsAConnectionThatWasOnItsWayElsewhere: it moves away from the hub to which its
// client comes, and is taken back.
func TestAClientFindsAConnectionThatWasOnItsWayElsewhere(t *testing.T) {
	onPair(t, func(t *testing.T, p *pair) {
		c := p.new.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.drop()
		moves := p.new.hub.Moves()
		if _, err := moves.Freeze(t.Context(), hub.ConnectionID(c.id), "other"); err != nil {
			t.Fatal(err)
		}
		p.mover.before = func(context.Context) error { return moves.Thaw(hub.ConnectionID(c.id)) }
		c.back()
		p.wantTakes(t, "here", 1)
	})
}

// stuck makes the takes of a pair wait, until the returned function is called or their time ends.
func (p *pair) stuck() (release func()) {
	released := make(chan struct{})
	p.mover.before = func(ctx context.Context) error {
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return func() { close(released) }
}

// TestAClientThatHangsUpDuringATakeLeavesNothing: its take ends at once, with its place.
func TestAClientThatHangsUpDuringATakeLeavesNothing(t *testing.T) {
	for name, rest := range map[string]string{
		"read by the hub":  "",
		"read by net/http": "X-Long: " + strings.Repeat("x", 8<<10) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			onPair(t, func(t *testing.T, p *pair) {
				c := p.strand(t)
				release := p.stuck()
				_, before := p.new.edge.Room()
				const clients = 10
				for range clients {
					_ = p.asks(c, rest).conn.Close()
					synctest.Wait()
				}
				p.wantTakes(t, "left", clients)
				gone := p.new.metric("connhub_handshakes_total", "result", "upgrade_failed")
				if _, room := p.new.edge.Room(); gone != clients || room != before {
					t.Errorf("%v clients hung up; there is room for %d links, before for %d",
						gone, room, before)
				}
				release()
				c.back()
			})
		})
	}
}

// TestTakesUnderWayAreBounded: those of a single hub have half of the places. New clients and those
// of this hub's connections go on meanwhile.
func TestTakesUnderWayAreBounded(t *testing.T) {
	const strangers = 80
	const most = strangers / 4 / 2
	onPair(t, func(t *testing.T, p *pair) {
		own := p.new.pubsub(t, "user=own", webpubsub.NameReliableJSON)
		c := p.strand(t)
		release := p.stuck()
		began := time.Now()
		var waiting []*raw
		for range most {
			waiting = append(waiting, p.asks(c, noCompression))
		}
		if n := p.new.metric("connhub_takes"); n != most {
			t.Errorf("%v takes are under way, want %d", n, most)
		}
		a := p.asks(c, noCompression).wantStatus(503, began, 0)
		wantReason(t, a, "TAKE_LIMIT")
		wantRetry(t, a.header, 3, 8)
		own.drop()
		own.back()
		p.new.asks("user=new", "").wantStatus(101, began, 0)
		release()
		for _, r := range waiting {
			r.wantStatus(101, began, 0)
			go func() { _, _ = io.Copy(io.Discard, r.r) }() // the hub ends all links but the last
		}
		synctest.Wait()
		p.wantTakes(t, "here", most)
	}, func(_ *hub.Config, c *edge.Config) { c.MaxStrangers = strangers })
}

// TestAClientOfAnotherHubIsInLineWithNewClients: it has proven nothing when it asks. It takes a
// single turn.
func TestAClientOfAnotherHubIsInLineWithNewClients(t *testing.T) {
	onPair(t, func(t *testing.T, p *pair) {
		c := p.strand(t)
		time.Sleep(time.Second)
		began := time.Now()
		p.new.asks("user=first", "").wantStatus(101, began, 0)
		taken := p.asks(c, noCompression)
		next := p.new.asks("user=next", "")
		if n := p.new.metric("connhub_handshakes_held", "class", "connect"); n != 2 {
			t.Errorf("%v are held among new clients", n)
		}
		if n := p.mover.called(); n != 0 {
			t.Errorf("%d takes before the client's turn", n)
		}
		taken.wantStatus(101, began, time.Second)
		next.wantStatus(101, began, 2*time.Second)
	}, atRate(1, 100))
}

func TestShutdownEndsTakesAtOnce(t *testing.T) {
	onPair(t, func(t *testing.T, p *pair) {
		c := p.strand(t)
		p.stuck()
		waiting := p.asks(c, noCompression)
		began, ended := time.Now(), make(chan struct{})
		go func() {
			defer close(ended)
			p.new.done()
		}()
		a := waiting.wantStatus(http.StatusServiceUnavailable, began, 0)
		wantReason(t, a, "SHUTTING_DOWN")
		_ = waiting.conn.Close()
		<-ended
	})
}
