package edge_test

import (
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/plain"
)

// busy is a protocol that takes the first message of a client and then does not return until it
// may.
type busy struct {
	plain.Protocol

	goOn chan struct{}
}

func (p busy) Receive(*hub.Connection, hub.PayloadKind, []byte) error {
	<-p.goOn
	return nil
}

// A client's pong lies in its socket, unread, when its time is over. The client stays, on each kind
// of link.
func TestPongInTheSocketCountsWhenItsTimeIsOver(t *testing.T) {
	p := busy{goOn: make(chan struct{})}
	quick := func(_ *hub.Config, c *edge.Config) {
		c.PingInterval, c.PongTimeout, c.Plain = time.Second, 3*time.Second, p
	}
	// The beds run at once, because each takes seconds.
	beds := map[string]*bed{"parked": overTCP(t, quick), "parked under TLS": overTLS(t, quick)}
	goroutinePerLink = true
	defer func() { goroutinePerLink = false }()
	beds["goroutine"], beds["goroutine under TLS"] = overTCP(t, quick), overTLS(t, quick)

	clients := map[string]*raw{}
	for name, b := range beds {
		c := b.upgrade("", "")
		c.write(masked(0x81, "busy from here on"))
		clients[name] = c
	}
	for name, c := range clients {
		f, err := c.frame()
		if err != nil || f.opcode != frame.Ping {
			t.Fatalf("%s: got %+v, %v; want a ping", name, f, err)
		}
		c.write(masked(0x8a, f.payload))
	}
	for name, b := range beds { // a second ping comes when the time of the first is over
		eventually(t, func() bool {
			return b.metric("connhub_pings_sent_total") == 2 || len(b.causes.all()) > 0
		})
		if got := b.causes.all(); len(got) != 0 {
			t.Errorf("%s: closed with %+v", name, got)
		}
	}
	close(p.goOn)
	for name, c := range clients {
		if f, err := c.frame(); err != nil || f.opcode != frame.Ping {
			t.Errorf("%s: got %+v, %v; want the second ping", name, f, err)
		}
		beds[name].send(everyone, hub.Text, "still here")
		c.wantFrame(frame.Text, "still here")
	}
}
