package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// atRate limits the rate of connects, and the handshakes that are held to half of strangers.
func atRate(rate, strangers int) setup {
	return func(_ *hub.Config, c *edge.Config) {
		c.ConnectRate, c.MaxStrangers = rate, strangers
		c.HandshakeTimeout = time.Second // a held handshake has more time than that
	}
}

// wantRetry checks that a client is told to come back after least to most seconds.
func wantRetry(t *testing.T, h http.Header, least, most int) {
	t.Helper()
	retry, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || retry < least || retry > most {
		t.Errorf("Retry-After %q, want %d to %d", h.Get("Retry-After"), least, most)
	}
}

// wantReason checks the reason in a problem document.
func wantReason(t *testing.T, a answer, reason string) {
	t.Helper()
	if !strings.Contains(a.body, `"reason":"`+reason+`"`) {
		t.Errorf("refused with %s, want %s", a.body, reason)
	}
}

// asks sends a request to connect, and returns when the hub has answered or holds it.
func (b *bed) asks(query, rest string) *raw {
	b.t.Helper()
	c := b.connect()
	c.write("GET /client/hubs/default?" + query + " HTTP/1.1\r\n" + upgradeHeader + rest + "\r\n")
	synctest.Wait()
	return c
}

// wantStatus reads the answer to a request, and checks its status and time.
func (c *raw) wantStatus(status int, began time.Time, after time.Duration) answer {
	c.t.Helper()
	response, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	a := readAnswer(c.t, response)
	if took := time.Since(began); a.status != status || took != after {
		c.t.Errorf("status %d after %v, want %d after %v: %s",
			a.status, took, status, after, a.body)
	}
	return a
}

func TestAClientAboveTheRateIsHeldAndNotRegisteredUntilItsTurn(t *testing.T) {
	for name, rest := range map[string]string{
		"read by the hub":  "",
		"read by net/http": "X-Long: " + strings.Repeat("x", 8<<10) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				b.upgrade("user=first", "")
				began := time.Now()
				var held []*raw
				for i := range 4 {
					held = append(held, b.asks(fmt.Sprint("user=", i), rest))
				}
				if n := b.metric("connhub_handshakes_held", "class", "connect"); n != 4 {
					t.Errorf("%v are held", n)
				}
				for i, c := range held {
					if n := b.hub.Len(); n != 1+i {
						t.Errorf("%d are registered before the turn of client %d", n, i)
					}
					c.wantStatus(101, began, time.Duration(i+1)*time.Second)
				}
			}, atRate(1, 100))
		})
	}
}

func TestAClientThatFindsTheQueueFullOrHasNoTurnInTimeIsToldToComeLater(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		began := time.Now()
		late := b.asks("user=late", "")
		for i := range 5 { // each takes the turn of a second
			if i == 4 {
				for j := range 4 {
					b.asks(fmt.Sprint("user=", j), "")
				}
				full := b.asks("user=full", "").wantStatus(503, began, 4*time.Second)
				wantReason(t, full, "CONNECT_RATE")
				wantRetry(t, full.header, 1, 6) // its turn is behind the five
			}
			c.drop()
			c.back()
		}
		refused := late.wantStatus(503, began, 5*time.Second)
		wantReason(t, refused, "CONNECT_TIMEOUT")
		wantRetry(t, refused.header, 1, 8)
	}, atRate(1, 10))
}

func TestAClientThatComesBackGoesBeforeNewClients(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.drop()
		began := time.Now()
		var held []*raw
		for i := range 3 {
			held = append(held, b.asks(fmt.Sprint("user=", i), ""))
		}
		b.send(everyone, hub.Text, "welcome back")
		c.back()
		if took := time.Since(began); took != time.Second {
			t.Errorf("back after %v, want the first turn", took)
		}
		c.want(numbered(1, "welcome back"))
		for i, h := range held {
			h.wantStatus(101, began, time.Duration(i+2)*time.Second)
		}
	}, atRate(1, 100))
}

// Neither a bad token nor a made-up resume takes a token of the rate or a place in the queue.
func TestAFloodWithoutAProofTakesNothingOfTheRate(t *testing.T) {
	key := tokenKey(t, "k")
	good := "access_token=" + sign(t, key, audience, auth.Claims{User: "ann"})
	bad := "access_token=" + sign(t, tokenKey(t, "x"), audience, auth.Claims{User: "ann"})
	for name, flood := range map[string]struct{ query, rest string }{
		"bad tokens":        {bad, ""},
		"no token":          {"", ""},
		"made-up resumes":   {"awps_connection_id=x&awps_reconnection_token=y", reliably},
		"resumes, no proof": {"awps_connection_id=%s&awps_reconnection_token=y", reliably},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				first := b.asks(good, reliably)
				first.wantStatus(101, time.Now(), 0)
				query := strings.Replace(flood.query, "%s", string(b.infos()[0].ID), 1)
				time.Sleep(time.Second)
				for range 1000 {
					c := b.asks(query, flood.rest)
					response, err := http.ReadResponse(c.r, nil)
					if err != nil {
						t.Fatal(err)
					}
					go func() { _, _ = io.Copy(io.Discard, c.r) }() // the hub closes
					if response.StatusCode == 503 {
						wantRetry(t, response.Header, 1, 3) // as many are declined as may be
					}
				}
				if n := b.metric("connhub_handshakes_held", "class", "resume") +
					b.metric("connhub_handshakes_held", "class", "connect"); n != 0 {
					t.Errorf("%v of the flood are held", n)
				}
				b.asks(good, "").wantStatus(101, time.Now(), 0)
			}, withTokens(key), func(_ *hub.Config, c *edge.Config) {
				c.Protocols = webpubsub.Protocols(nil)
			}, atRate(1, 100))
		})
	}
}

// reliably asks for a protocol that can resume.
const reliably = "Sec-WebSocket-Protocol: " + webpubsub.NameReliableJSON + "\r\n"

func TestAHeldClientThatHangsUpFreesItsPlaceAtOnce(t *testing.T) {
	for name, tc := range map[string]struct{ rest, early string }{
		"read by the hub":  {"", ""},
		"after a byte":     {"", "x"},
		"after many bytes": {"", strings.Repeat("x", 2000)},
		"read by net/http": {"X-Long: " + strings.Repeat("x", 8<<10) + "\r\n", ""},
	} {
		rest := tc.rest
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, b *bed) {
				b.upgrade("user=first", "")
				for range 1000 {
					c := b.asks("user=fickle", rest)
					if tc.early != "" {
						_, _ = io.WriteString(c.conn, tc.early) // the hub may have hung up
					}
					_ = c.conn.Close()
					synctest.Wait()
				}
				began := time.Now()
				b.asks("user=ann", rest).wantStatus(101, began, time.Second)
				gone := b.metric("connhub_handshakes_total", "result", "upgrade_failed")
				if gone != 1000 {
					t.Errorf("%v hung up", gone)
				}
			}, atRate(1, 4))
		})
	}
}

// While a client is held, the hub reads from its socket, to see its end. What the client sends
// meanwhile is not lost.
func TestAHeldClientIsServedAsAnyOther(t *testing.T) {
	const rate = 10
	eachSocket(t, func(t *testing.T, b *bed) {
		for range rate {
			b.upgrade("", "")
		}
		for name, early := range map[string]string{
			"silent":                    "",
			"a ping behind its request": masked(0x89, "early"),
		} {
			c := b.upgrade("user=ann", early)
			if early != "" {
				c.wantFrame(frame.Pong, "early")
			}
			c.write(masked(0x89, name))
			c.wantFrame(frame.Pong, name)
		}
		c := b.connect()
		c.write("GET /ws?user=bob HTTP/1.1\r\n" + upgradeHeader + "\r\n")
		eventually(t, func() bool { // a busy machine may miss the time
			return b.metric("connhub_handshakes_held", "class", "connect") == 1 ||
				b.hub.Len() == rate+3
		})
		c.write(masked(0x89, "while it is held"))
		if response, err := http.ReadResponse(c.r, nil); err != nil || response.StatusCode != 101 {
			t.Fatal(response, err)
		}
		c.wantFrame(frame.Pong, "while it is held")
	}, atRate(rate, 100), func(_ *hub.Config, c *edge.Config) { c.HandshakeTimeout = time.Minute })
}

// A client that does not read the answer costs the queue its turn, and no time.
func TestHeldClientsThatDoNotReadDelayNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		b.upgrade("user=first", "")
		began := time.Now()
		for i := range 3 {
			b.asks(fmt.Sprint("user=deaf", i), "")
		}
		if connects, links := b.edge.Room(); connects != 0 || links != 1000-4 {
			t.Errorf("there is room for %d connects and %d links", connects, links)
		}
		b.asks("user=ann", "").wantStatus(101, began, 4*time.Second)
		time.Sleep(5 * time.Second)
		if connects, links := b.edge.Room(); b.hub.Len() != 2 || connects != 1 || links != 1000-2 {
			t.Errorf("there are %d connections, and room for %d connects and %d links",
				b.hub.Len(), connects, links)
		}
	}, atRate(1, 100), func(_ *hub.Config, c *edge.Config) { c.MaxLinks = 1000 })
}

func TestShutdownRefusesHeldClientsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bed) {
		_ = b.upgrade("user=first", "").conn.Close()
		held := b.asks("user=ann", "")
		began := time.Now()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			b.done()
		}()
		wantRefusal(t, b, held.wantStatus(503, began, 0), 503, "SHUTTING_DOWN")
		_ = held.conn.Close()
		<-ended
	}, atRate(1, 100))
}

// Clients that fill the queue leave strangers their half of the lobby: a client that resumes can
// tell that it does.
func TestHeldClientsLeaveRoomForTheRequestsOfOthers(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		c.drop()
		began := time.Now()
		for i := range 20 {
			a := b.asks(fmt.Sprint("user=", i), "")
			go func() { // reads its answer
				if r, err := http.ReadResponse(bufio.NewReader(a.conn), nil); err == nil {
					_ = r.Body.Close()
				}
				_ = a.conn.Close()
			}()
		}
		c.back()
		if took := time.Since(began); took != time.Second {
			t.Errorf("back after %v, want the first turn", took)
		}
	}, atRate(1, 8))
}

// A client has a single place before the new clients, however often it asks for its connection.
func TestAClientThatComesBackManyTimesTakesNoTurnsOfOthers(t *testing.T) {
	webPubSub(t, func(t *testing.T, b *bed) {
		eve := b.pubsub(t, "user=eve", webpubsub.NameReliableJSON)
		ann := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
		eve.drop()
		ann.drop()
		began := time.Now()
		_, query, _ := strings.Cut(eve.recovery(), "?")
		headers := reliably + strings.TrimSuffix(offer, "\r\n")
		for range 5 { // as many as are held at that rate
			c := b.asks(query, headers)
			go func() { _, _ = io.Copy(io.Discard, c.r) }()
		}
		if n := b.metric("connhub_handshakes_held", "class", "resume"); n != 1 {
			t.Errorf("%v of eve's handshakes are in the class of resumes", n)
		}
		ann.back()
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("ann was back after %v, want the turn behind eve's first", took)
		}
	}, atRate(1, 100))
}
