package edge_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// begin begins a message of 99,000 bytes whose last byte never comes.
func (c *raw) begin() {
	c.t.Helper()
	most := masked(0x82, strings.Repeat("x", 99_000))
	c.write(most[:len(most)-1])
}

// in connects a raw client to a namespace.
func (b *bed) in(namespace, query string) *raw {
	b.t.Helper()
	c := b.connect()
	c.write("GET /client/hubs/" + namespace + "?" + query + " HTTP/1.1\r\n" + upgradeHeader +
		"\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		b.t.Fatalf("status %s", resp.Status)
	}
	return c
}

// A user whose connections keep back the ends of large messages pays for them. Further users send
// their messages, in every namespace.
func TestTheUserWhoKeepsBackMessagesPaysForThem(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		const greedy, others = 12, 20
		for range greedy {
			b.upgrade("user=greedy", "").begin()
		}
		eventually(t, func() bool { return len(b.causes.all()) > 0 }) // the budget is full
		// and holds less than the greedy user
		b.in("other", "user=also").begin()
		for i := range others {
			c := b.in([]string{"default", "other"}[i%2], fmt.Sprint("user=", i))
			c.write(masked(0x82, strings.Repeat("y", 20_000)) + masked(0x89, "after"))
			c.wantFrame(frame.Pong, "after")
		}
		eventually(t, func() bool {
			return b.metric("connhub_client_messages_total", "kind", "binary", "protocol",
				"plain") == others
		})
		ended := b.causes.all()
		for _, how := range ended {
			if how != cause.Memory.CloseStatus() {
				t.Errorf("closed with %+v", how)
			}
		}
		left := 0
		for _, info := range b.infos() {
			if info.User == "greedy" {
				left++
			}
		}
		if left+len(ended) != greedy || left == 0 {
			t.Errorf("%d were closed, %d of the greedy user are left", len(ended), left)
		}
	}, largeMessages)
}

// A client that is closed for its message hears so, and its link ends in time.
func TestAClientThatPaysIsToldSo(t *testing.T) {
	eachSocket(t, func(t *testing.T, b *bed) {
		first := b.upgrade("user=greedy", "")
		first.begin()
		var more []*raw
		for range 4 {
			c := b.upgrade("user=greedy", "")
			c.begin()
			more = append(more, c)
		}
		eventually(t, func() bool { return len(b.causes.all()) > 0 })
		told := 0
		for _, c := range append(more, first) {
			_ = c.conn.(interface{ CloseWrite() error }).CloseWrite()
			if e := c.end(); e.code == cause.Memory.CloseStatus().Code {
				told++
			}
		}
		waitUntilEmpty(b)
		if told == 0 {
			t.Error("nobody was told")
		}
	}, largeMessages)
}

func largeMessages(_ *hub.Config, c *edge.Config) {
	c.MaxMessage, c.InboundBytes = 100_000, 600_000
}
