//go:build bench && linux

package engine

import (
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/auth"
)

// newcomers is the number of clients that connect in a round.
const newcomers = 500

// measureConnect measures handshakes with all work of the hub until a client is attached, beside
// net/http with coder/websocket's own Accept and a handler that reads. It does not measure closing.
func measureConnect() ([]row, error) {
	config := reference()
	config.keep = false
	key, err := auth.NewTokenKey([]byte("a-key-for-a-benchmark-and-nothing-else"))
	if err != nil {
		return nil, err
	}
	config.tokens = auth.NewTokens(nil, key)
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	l, err := listen()
	if err != nil {
		return nil, err
	}
	plainly, active := l.Addr().String(), serveAccept(l)
	token, err := key.Sign(auth.Audience(&config.publicURL, "default"), auth.Claims{
		User: "user-00000000000", Groups: []string{shared}, Expires: time.Now().Add(time.Hour),
	})
	if err != nil {
		return nil, err
	}
	held := func() int { return b.hub.Len() }
	took, err := rounds(cpuTime, pairs,
		b.connecting(opening{Address: b.clients, Path: clientPath()}, held),
		b.connecting(opening{Address: plainly, Path: clientPath()}, func() int {
			return int(active.Load())
		}),
		b.connecting(
			opening{Address: b.clients, Path: "/ws?access_token=" + url.QueryEscape(token)}, held,
		))
	if err != nil {
		return nil, err
	}
	return []row{
		ratio("handshake and attach / net/http and Accept", newcomers, took, 1.3),
		ratio("the same with a token", newcomers, [][]time.Duration{took[2], took[1]}, 0),
	}, b.end()
}

// connecting is a round in which newcomers connect. Afterwards they close.
func (b *bed) connecting(o opening, held func() int) variant {
	o.Count = newcomers
	return variant{
		measured: func() error {
			if _, err := b.order(order{Open: &o}); err != nil {
				return err
			}
			settle()
			return eventually("newcomers", func() bool { return held() == newcomers })
		},
		after: func() error {
			if _, err := b.order(order{Close: true}); err != nil {
				return err
			}
			err := eventually("the end of newcomers", func() bool { return held() == 0 })
			settle()
			return err
		},
	}
}

// serveAccept serves WebSockets without a hub until the process ends. It returns the number of open
// connections.
func serveAccept(l net.Listener) *atomic.Int64 {
	active := new(atomic.Int64)
	serve(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		active.Add(1)
		defer active.Add(-1)
		for err == nil {
			_, _, err = c.Read(r.Context())
		}
	})}, l)
	return active
}
