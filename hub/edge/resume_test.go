package edge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// here is an edge.Publisher for the hub of a bed.
type here struct{ hub *hub.Hub }

// Publish implements edge.Publisher.
func (p *here) Publish(ctx context.Context, s *hub.Send) error {
	_, err := p.hub.Deliver(ctx, s)
	return err
}

// webPubSub runs a test in a bubble whose bed speaks Web PubSub, without and with compression.
func webPubSub(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	for _, compressed := range []bool{false, true} {
		t.Run(fmt.Sprintf("compressed=%t", compressed), func(t *testing.T) {
			p := &here{}
			bubble(t, func(t *testing.T, b *bed) {
				p.hub = b.hub
				test(t, b)
			}, append(setups, func(_ *hub.Config, c *edge.Config) {
				c.Protocols, c.Compression = webpubsub.Protocols(p), compressed
			})...)
		})
	}
}

// pubSubOnEach is webPubSub, and over lines.
func pubSubOnEach(t *testing.T, test func(t *testing.T, b *bed), setups ...setup) {
	t.Helper()
	webPubSub(t, test, setups...)
	p := &here{}
	t.Run("lines", func(t *testing.T) {
		onLines(t, func(t *testing.T, b *bed) {
			p.hub = b.hub
			test(t, b)
		}, append(setups, func(_ *hub.Config, c *edge.Config) {
			c.Protocols = webpubsub.Protocols(p)
		})...)
	})
}

// pubsub is a client of Web PubSub.
type pubsub struct {
	Conn

	t         *testing.T
	bed       *bed
	url       string // of its first connection
	id, token string // as it was greeted
}

// pubsub connects a client and reads its greeting. It offers compression.
func (b *bed) pubsub(t *testing.T, query, subprotocol string) *pubsub {
	t.Helper()
	p := &pubsub{t: t, bed: b, url: "ws://hub.test/client/hubs/default?" + query}
	p.open(p.url, subprotocol)
	p.greeted()
	return p
}

func (p *pubsub) open(target, subprotocol string) {
	p.t.Helper()
	if p.bed.lines != nil {
		_, query, _ := strings.Cut(target, "?")
		p.Conn = p.bed.openLines(query, subprotocol)
		return
	}
	c, _, err := websocket.Dial(p.t.Context(), target, &websocket.DialOptions{
		HTTPClient: p.bed.client, Subprotocols: []string{subprotocol},
		CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1,
	})
	if err != nil {
		p.t.Fatalf("dial: %v", err)
	}
	if c.Subprotocol() != subprotocol {
		p.t.Fatalf("subprotocol %q", c.Subprotocol())
	}
	c.SetReadLimit(-1)
	p.t.Cleanup(func() { _ = c.CloseNow() })
	p.Conn = c
}

// greeted reads the first frame of a link.
func (p *pubsub) greeted() {
	p.t.Helper()
	var m struct{ Type, Event, ConnectionID, ReconnectionToken string }
	_, text := read(p.t, p.Conn)
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.Type != "system" ||
		m.Event != "connected" || m.ConnectionID == "" {
		p.t.Fatalf("greeted with %s: %v", text, err)
	}
	p.id, p.token = m.ConnectionID, m.ReconnectionToken
}

// recovery is the URL with which an SDK comes back.
func (p *pubsub) recovery() string {
	return p.url + "&" +
		url.Values{"awps_connection_id": {p.id}, "awps_reconnection_token": {p.token}}.Encode()
}

// back comes back, on a new link, wherever the old link is.
func (p *pubsub) back() {
	p.t.Helper()
	id, token := p.id, p.token
	p.open(p.recovery(), webpubsub.NameReliableJSON)
	p.greeted()
	if p.id != id || p.token == token {
		p.t.Errorf("came back as %s with token %s, was %s with %s", p.id, p.token, id, token)
	}
}

// drop loses the link without a word, and waits until the hub knows.
func (p *pubsub) drop() {
	p.t.Helper()
	_ = p.CloseNow()
	synctest.Wait()
}

func (p *pubsub) say(message string) {
	p.t.Helper()
	if err := p.Write(p.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pubsub) want(messages ...string) {
	p.t.Helper()
	for _, want := range messages {
		if _, got := read(p.t, p.Conn); got != want {
			p.t.Errorf("got %s, want %s", got, want)
		}
	}
}

// numbered is a message to everyone in the form that a client gets.
func numbered(sequence int, data string) string {
	return fmt.Sprintf(
		`{"sequenceId":%d,"type":"message","from":"server","dataType":"text","data":"%s"}`,
		sequence, data)
}

func acknowledge(sequence int) string {
	return fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, sequence)
}

// long is a message that is worth compressing.
var long = strings.Repeat("long ", 100)

func TestClientComesBackToWhatItHasNotConfirmed(t *testing.T) {
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.say(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.want(`{"type":"ack","ackId":1,"success":true}`)
		for _, data := range []string{"one", "two", long} {
			b.send(everyone, hub.Text, data)
		}
		c.want(numbered(1, "one"), numbered(2, "two"), numbered(3, long))
		c.say(acknowledge(1))
		synctest.Wait()
		for round := range 3 { // nothing is confirmed: all comes again
			c.drop()
			r := b.send(hub.Target{Users: []string{"ann"}}, hub.Text, fmt.Sprint("absent ", round))
			if want := (hub.Receipt{
				MessageID: r.MessageID, Matched: 1,
				QueuedDetached: 1,
			}); !cmp.Equal(want, r) {
				t.Errorf("receipt %+v", r)
			}
			c.back()
			c.want(numbered(2, "two"), numbered(3, long))
			for n := range round + 1 {
				c.want(numbered(4+n, fmt.Sprint("absent ", n)))
			}
		}
		c.say(acknowledge(6))
		c.say(`{"type":"sendToGroup","group":"g","data":1}`) // it is in the group still
		c.want(`{"sequenceId":7,"type":"message","from":"group","group":"g","fromUserId":"ann",` +
			`"dataType":"json","data":1}`)
		if infos := b.infos(); len(infos) != 1 || infos[0].UnackedMessages != 1 ||
			infos[0].LastAcked != 6 {
			t.Errorf("connections %+v", infos)
		}
	})
}

// The SDK gives up a silent link by itself, and the hub may not have noticed. The old link writes
// nothing more.
func TestClientTakesItsConnectionFromALinkThatLooksAlive(t *testing.T) {
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		b.send(everyone, hub.Text, "one")
		c.want(numbered(1, "one"))
		old := c.Conn
		c.back()
		c.want(numbered(1, "one"))
		b.send(everyone, hub.Text, "two")
		c.want(numbered(2, "two"))
		_, text, err := old.Read(t.Context())
		if _, closed := errors.AsType[websocket.CloseError](err); err == nil || closed {
			t.Errorf("the old link says %q, %v", text, err)
		}
		synctest.Wait() // the end of the old link ends nothing else
		b.send(everyone, hub.Text, "three")
		c.want(numbered(3, "three"))
		if n := b.hub.Len(); n != 1 || len(b.causes.all()) != 0 {
			t.Errorf("%d connections, closes %v", n, b.causes.all())
		}
	})
}

// slowly is a Publisher that takes its time for the first.
type slowly struct {
	here

	published atomic.Int32
	first     chan struct{}
}

// Publish implements edge.Publisher.
func (p *slowly) Publish(ctx context.Context, s *hub.Send) error {
	if p.published.Add(1) == 1 {
		<-p.first
	}
	return p.here.Publish(ctx, s)
}

func TestCommandThatRunsWhenItsClientTakesOverIsDoneAndAnsweredOnce(t *testing.T) {
	p := &slowly{}
	eachLink(t, func(t *testing.T, b *bed) {
		p.hub, p.first = b.hub, make(chan struct{})
		p.published.Store(0)
		c, other := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON),
			b.pubsub(t, "group=g", webpubsub.NameJSON)
		const command = `{"type":"sendToGroup","group":"g","ackId":1,"data":1}`
		c.say(command)
		synctest.Wait()
		c.back()
		c.say(command)
		synctest.Wait()
		close(p.first)
		c.want(`{"type":"ack","ackId":1,"success":false,"error":{"name":"Duplicate",` +
			`"message":"a command with this ackId has succeeded before"}}`)
		c.say(`{"type":"ping"}`)
		c.want(`{"type":"pong"}`)
		other.want(`{"type":"message","from":"group","group":"g","fromUserId":"ann",` +
			`"dataType":"json","data":1}`)
		if n := p.published.Load(); n != 1 {
			t.Errorf("published %d times", n)
		}
	}, func(_ *hub.Config, c *edge.Config) { c.Protocols = webpubsub.Protocols(p) })
}

// A greeting that the client never read does not lock it out by its new token.
func TestClientMayComeBackWithTheTokenBeforeIfTheLastOneNeverReachedIt(t *testing.T) {
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.drop()
		c.open(c.recovery(), webpubsub.NameReliableJSON) // and is lost before it reads anything
		c.drop()
		c.back()
		b.send(everyone, hub.Text, "one")
		c.want(numbered(1, "one"))
	})
}

// Clients repeat after a refusal by status. So a client that can't come back is upgraded, and
// closed with 1008.
func TestWhoCannotComeBackIsToldByAClose(t *testing.T) {
	for name, recovery := range map[string]func(c *pubsub) (target, subprotocol string){
		"wrong token": func(c *pubsub) (string, string) {
			c.token = strings.Repeat("A", len(c.token))
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"no token": func(c *pubsub) (string, string) {
			return c.url + "&awps_connection_id=" + c.id, webpubsub.NameReliableJSON
		},
		"token of another": func(c *pubsub) (string, string) {
			c.token = c.bed.pubsub(c.t, "", webpubsub.NameReliableJSON).token
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"another namespace": func(c *pubsub) (string, string) {
			c.url = "ws://hub.test/client/hubs/other?"
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"another subprotocol": func(c *pubsub) (string, string) {
			return c.recovery(), webpubsub.NameJSON
		},
		"unknown id": func(c *pubsub) (string, string) {
			c.id = string(c.bed.hub.ID()) + ".x"
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"not a reliable one": func(c *pubsub) (string, string) {
			c.id = c.bed.pubsub(c.t, "", webpubsub.NameJSON).id
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"too late": func(c *pubsub) (string, string) {
			time.Sleep(time.Minute + time.Second) // the bubble's clock
			return c.recovery(), webpubsub.NameReliableJSON
		},
		"closed": func(c *pubsub) (string, string) {
			if _, err := c.bed.hub.CloseConnections(c.t.Context(), hub.DefaultNamespace,
				&hub.Target{Connections: []string{c.id}}, cause.Backend.CloseStatus(),
				0); err != nil {
				c.t.Fatal(err)
			}
			return c.recovery(), webpubsub.NameReliableJSON
		},
	} {
		t.Run(name, func(t *testing.T) {
			webPubSub(t, func(t *testing.T, b *bed) {
				c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
				c.drop()
				before := b.metric("connhub_handshakes_total", "result", "resume_declined")
				c.open(recovery(c))
				wantClose(t, c.Conn, websocket.StatusPolicyViolation,
					"the connection can't be resumed")
				if got := b.metric("connhub_handshakes_total", "result",
					"resume_declined"); got != before+1 {
					t.Errorf("counted %v", got-before)
				}
			})
		})
	}
}

// The waiting messages are compressed already.
func TestClientThatNoLongerTakesCompressionCannotComeBack(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "", webpubsub.NameReliableJSON)
		c.drop()
		plain, _, err := websocket.Dial(t.Context(), c.recovery(),
			&websocket.DialOptions{
				HTTPClient:   b.client,
				Subprotocols: []string{webpubsub.NameReliableJSON},
			})
		if err != nil {
			t.Fatal(err)
		}
		wantClose(t, plain, websocket.StatusPolicyViolation, "the connection can't be resumed")
		c.back()
	}, func(_ *hub.Config, c *edge.Config) {
		c.Protocols, c.Compression = webpubsub.Protocols(&here{}), true
	})
}

// A refusal that passes: another hub may be asked.
func TestHubThatLeavesRefusesThoseWhoComeBack(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.drop()
		if err := b.hub.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		target := strings.TrimPrefix(c.recovery(), "ws://hub.test")
		wantRefusal(t, b, b.ask("GET", target,
			map[string]string{"Sec-WebSocket-Protocol": webpubsub.NameReliableJSON}),
			http.StatusServiceUnavailable, "SHUTTING_DOWN")
	})
}

// The connection is proof enough: the access token, which SDKs leave in the URL, may have run out.
func TestAccessTokenIsNotLookedAtAgain(t *testing.T) {
	key := tokenKey(t, "k")
	webPubSub(t, func(t *testing.T, b *bed) {
		token := sign(t, key, audience,
			auth.Claims{User: "ann", Expires: time.Now().Add(20 * time.Second)})
		c := b.pubsub(t, "access_token="+token, webpubsub.NameReliableJSON)
		c.drop()
		time.Sleep(50 * time.Second) // the bubble's clock; still within the window
		c.back()
		c.say(`{"type":"joinGroup","group":"g","ackId":1}`)
		c.want(`{"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden",` +
			`"message":"you may not join or leave this group"}}`)
	}, withTokens(key))
}

func TestReceiptsTellWhatTheClientConfirmed(t *testing.T) {
	pubSubOnEach(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		plain := b.pubsub(t, "user=bob", webpubsub.NameJSON)
		receipts := make(chan hub.Receipt)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() {
			receipts <- b.deliver(ctx, &hub.Send{
				Message: &hub.Message{
					Namespace: hub.DefaultNamespace, Kind: hub.Text,
					Payload: []byte("one"),
				},
				Target: everyone, Wait: hub.WaitAcked,
			})
		}()
		plain.want(`{"type":"message","from":"server","dataType":"text","data":"one"}`)
		c.want(numbered(1, "one"))
		synctest.Wait()
		select {
		case r := <-receipts:
			t.Fatalf("not confirmed, and %+v", r)
		default:
		}
		c.drop()
		c.back()
		c.want(numbered(1, "one"))
		c.say(acknowledge(1))
		r := <-receipts
		if want := (hub.Receipt{
			MessageID: r.MessageID, Matched: 2, Written: 1, NotAckable: 1,
			Acked: 1,
		}); !cmp.Equal(want, r) {
			t.Errorf("receipt %+v", r)
		}
	})
}

func TestClientIsToldBeforeTheHubCloses(t *testing.T) {
	for _, subprotocol := range []string{webpubsub.NameJSON, webpubsub.NameReliableJSON} {
		pubSubOnEach(t, func(t *testing.T, b *bed) {
			c := b.pubsub(t, "", subprotocol)
			b.send(everyone, hub.Text, "one")
			how := cause.CloseStatus{Cause: cause.Backend, Code: 4000, Reason: `"enough"`}
			if _, err := b.hub.CloseConnections(t.Context(), hub.DefaultNamespace, &everyone, how,
				0); err != nil {
				t.Fatal(err)
			}
			if _, first := read(t, c.Conn); !strings.Contains(first, `"data":"one"`) {
				t.Errorf("got %s", first)
			}
			c.want(`{"type":"system","event":"disconnected","message":"\"enough\""}`)
			wantClose(t, c.Conn, 4000, `"enough"`)
		})
	}
}

func TestWhatAClientMayNotSendEndsItWithTheRightCode(t *testing.T) {
	for name, tc := range map[string]struct {
		kind   websocket.MessageType
		sent   string
		code   websocket.StatusCode
		reason string
		run    func(*testing.T, func(*testing.T, *bed), ...setup)
	}{
		"binary": {
			websocket.MessageBinary, `{"type":"ping"}`, 1003,
			"message type not supported", pubSubOnEach,
		},
		"malformed": {
			websocket.MessageText, `{"type":"ping"`, 1007, "not valid JSON", pubSubOnEach,
		},
		"no type": {
			websocket.MessageText, `{"ackId":1}`, 1007, "type: want a string", pubSubOnEach,
		},
		"not UTF-8": { // the link finds out
			websocket.MessageText, "{\"type\":\"ping\",\"x\":\"\xff\"}", 1007,
			"text is not UTF-8", webPubSub,
		},
		"forged ack": {
			websocket.MessageText, acknowledge(1), 1008,
			"sequenceId: nothing with this id was sent", pubSubOnEach,
		},
		"too large": { // the link finds out
			websocket.MessageText, strings.Repeat(" ", 7<<20) + `{}`, 1009,
			"message too big", webPubSub,
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.run(t, func(t *testing.T, b *bed) {
				other := b.pubsub(t, "", webpubsub.NameReliableJSON)
				c := b.pubsub(t, "", webpubsub.NameReliableJSON)
				// it may be cut off
				go func() { _ = c.Write(t.Context(), tc.kind, []byte(tc.sent)) }()
				_, told, err := c.Read(t.Context())
				if err == nil {
					_, _, err = c.Read(t.Context())
				}
				if ce, ok := errors.AsType[websocket.CloseError](err); !ok || ce.Code != tc.code ||
					tc.code != 1009 && ce.Reason != tc.reason {
					t.Errorf("ended with %v, want %d %s", err, tc.code, tc.reason)
				}
				want := `{"type":"system","event":"disconnected","message":"` + tc.reason + `"}`
				if tc.code == 1009 {
					want = "" // that is between the WebSockets
				}
				if string(told) != want {
					t.Errorf("told %s, want %s", told, want)
				}
				other.say(`{"type":"ping"}`)
				other.want(`{"type":"pong"}`)
			})
		})
	}
}

// The sockets are real, with the poller. The client gives them up while messages come, with FIN or
// RST at random, or leaves them open. It confirms from time to time, and sees each message once.
func TestNothingIsLostDoubledOrOutOfOrderHoweverOftenTheSocketIsLost(t *testing.T) {
	p := &here{}
	eachSocket(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		const messages, every = 2000, 50 // as many until the next socket
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		id := c.id
		ahead := make(chan struct{}, 500) // of the client: so many wait in the hub at most
		go func() {
			for i := range messages {
				ahead <- struct{}{}
				b.send(everyone, hub.Text, fmt.Sprint(i+1))
			}
		}()
		seen := 0
		for seen < messages {
			var m struct {
				SequenceID int
				Data       string
			}
			_, text := read(t, c.Conn)
			if err := json.Unmarshal([]byte(text), &m); err != nil {
				t.Fatal(err)
			}
			if m.SequenceID <= seen {
				continue // as an SDK does
			}
			if seen++; m.SequenceID != seen || m.Data != fmt.Sprint(seen) {
				t.Fatalf("got %s behind %d", text, seen-1)
			}
			<-ahead
			if seen%30 == 0 {
				c.say(acknowledge(seen))
			}
			if seen%every == 0 {
				if seen/every%3 > 0 {
					_ = c.CloseNow()
				}
				c.back()
			}
		}
		if c.id != id || b.hub.Len() != 1 {
			t.Errorf("%s became %s, %d connections", id, c.id, b.hub.Len())
		}
	}, func(_ *hub.Config, c *edge.Config) { c.Protocols = webpubsub.Protocols(p) })
}

// If connections end with their token, a connection that waits for its client ends too.
func TestConnectionWhoseTokenExpiredMeanwhileIsNotGivenBack(t *testing.T) {
	key := tokenKey(t, "k")
	webPubSub(t, func(t *testing.T, b *bed) {
		token := sign(t, key, audience,
			auth.Claims{User: "ann", Expires: time.Now().Add(time.Second)})
		c := b.pubsub(t, "access_token="+token, webpubsub.NameReliableJSON)
		time.Sleep(auth.ClockLeeway) // the bubble's clock
		c.drop()
		b.send(everyone, hub.Text, "too late")
		time.Sleep(2 * time.Second)
		c.open(c.recovery(), webpubsub.NameReliableJSON)
		wantClose(t, c.Conn, websocket.StatusPolicyViolation, "the connection can't be resumed")
	}, endingAtExpiry(key))
}

// A phone that loses its network during an upload has sent half a frame. It is away, and not too
// slow.
func TestClientThatVanishedInTheMiddleOfAFrameComesBack(t *testing.T) {
	p := &here{}
	eachSocket(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		c, _ := b.upgradeWith("user=ann",
			"Sec-WebSocket-Protocol: "+webpubsub.NameReliableJSON+"\r\n\r\n")
		b.waitAttached(1)
		c.write(masked(0x81, `{"type":"ping"}`)[:9])
		eventually(t, func() bool {
			return len(b.infos()) == 1 && b.infos()[0].Phase == hub.PhaseDetached
		})
		if ends := b.causes.all(); len(ends) != 0 {
			t.Errorf("closed with %v", ends)
		}
	}, func(_ *hub.Config, c *edge.Config) {
		c.Protocols, c.MessageTimeout = webpubsub.Protocols(p), 200*time.Millisecond
	})
}
