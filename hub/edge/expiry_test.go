package edge_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// endingAtExpiry is withTokens, and connections end with theirs.
func endingAtExpiry(k *auth.TokenKey) setup {
	return func(h *hub.Config, c *edge.Config) {
		withTokens(k)(h, c)
		c.EndAtExpiry = true
	}
}

// expiring connects a client whose token lives for ttl. The client answers pings until it is
// closed, and then sends the time of the close.
func (b *bed) expiring(k *auth.TokenKey, ttl time.Duration) <-chan time.Time {
	b.t.Helper()
	c := b.dial("access_token=" + sign(b.t, k, audience, auth.Claims{Expires: time.Now().Add(ttl)}))
	closed := make(chan time.Time, 1)
	go func() {
		wantClose(b.t, c, websocket.StatusPolicyViolation, "token expired")
		closed <- time.Now()
	}()
	return closed
}

func TestAConnectionEndsWithItsTokenWhenThatIsWanted(t *testing.T) {
	key := tokenKey(t, "k")
	bubble(t, func(t *testing.T, b *bed) {
		for _, ttl := range []time.Duration{time.Second, 40 * time.Second, time.Hour} {
			end := time.Now().Add(ttl + auth.ClockLeeway)
			if late := (<-b.expiring(key, ttl)).Sub(end); late < 0 || late > slack {
				t.Errorf("token of %v: closed %v after its end", ttl, late)
			}
		}
		waitUntilEmpty(b)
		for _, how := range b.causes.all() {
			if how.Cause != cause.TokenExpired {
				t.Errorf("cause %v", how.Cause)
			}
		}
	}, endingAtExpiry(key))
}

// A client that does not answer the close has its link a little longer, and nothing else.
func TestNothingIsSentToAConnectionWhoseTokenHasExpired(t *testing.T) {
	key := tokenKey(t, "k")
	bubble(t, func(t *testing.T, b *bed) {
		c := b.dial("access_token=" +
			sign(t, key, audience, auth.Claims{Expires: time.Now().Add(time.Second)}))
		time.Sleep(time.Second + auth.ClockLeeway + slack) // the bubble's clock; c reads nothing
		if r := b.send(everyone, hub.Text, "too late"); r.Matched != 0 || b.hub.Len() != 0 {
			t.Errorf("%d connections, receipt %+v", b.hub.Len(), r)
		}
		wantClose(t, c, websocket.StatusPolicyViolation, "token expired")
	}, endingAtExpiry(key), func(_ *hub.Config, c *edge.Config) { c.PingInterval = time.Hour })
}

// A connection that waits for its client to come back waits no longer than its token is valid.
func TestAConnectionWithoutALinkEndsWithItsTokenToo(t *testing.T) {
	key := tokenKey(t, "k")
	p := &here{}
	bubble(t, func(t *testing.T, b *bed) {
		p.hub = b.hub
		ends := time.Now().Add(10*time.Second + auth.ClockLeeway)
		c := b.pubsub(t, "access_token="+sign(t, key, audience, auth.Claims{
			User:    "ann",
			Expires: time.Now().Add(10 * time.Second),
		}), webpubsub.NameReliableJSON)
		time.Sleep(time.Until(ends) - 5*time.Second)
		_ = c.CloseNow()
		synctest.Wait()
		time.Sleep(time.Until(ends) - time.Second)
		if r := b.send(everyone, hub.Text, "in time"); r.Matched != 1 || r.QueuedDetached != 1 {
			t.Errorf("a second before the end: receipt %+v", r)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if r := b.send(everyone, hub.Text, "too late"); r.Matched != 0 {
			t.Errorf("at the end: receipt %+v", r)
		}
		if all := b.causes.all(); len(all) != 1 || all[0].Cause != cause.TokenExpired {
			t.Errorf("ended with %v", all)
		}
	}, endingAtExpiry(key), func(_ *hub.Config, c *edge.Config) {
		c.Protocols = webpubsub.Protocols(p)
	})
}

func TestATokenThatNeverExpiresEndsNothing(t *testing.T) {
	key := tokenKey(t, "k")
	bubble(t, func(t *testing.T, b *bed) {
		c := b.dial("access_token=" + signRaw(`{"aud":"`+audience+`","exp":1e15}`))
		go func() { _, _, _ = c.Read(t.Context()) }() // answers pings
		time.Sleep(24 * time.Hour)                    // the bubble's clock
		if b.hub.Len() != 1 {
			t.Error("closed")
		}
		_ = c.CloseNow()
	}, endingAtExpiry(key))
}

func TestAConnectionOutlivesItsTokenOtherwise(t *testing.T) {
	key := tokenKey(t, "k")
	bubble(t, func(t *testing.T, b *bed) {
		c := b.dial("access_token=" +
			sign(t, key, audience, auth.Claims{Expires: time.Now().Add(time.Second)}))
		go func() { _, _, _ = c.Read(t.Context()) }() // answers pings
		time.Sleep(24 * time.Hour)                    // the bubble's clock
		synctest.Wait()
		if b.hub.Len() != 1 {
			t.Error("closed")
		}
		_ = c.CloseNow()
	}, withTokens(key))
}
