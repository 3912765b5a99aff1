package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// crowdRole is the role of clients that are too many for the open files of a single process. They
// only count messages.
const crowdRole = "crowd"

// crowdOrder is an order to a crowd: to connect Clients more, or to wait until each client has got
// Messages.
type crowdOrder struct {
	Clients             int
	Host, Address, Path string // where they come from, and where they go
	Messages            int
}

// crowdNews is how each client of a crowd stands.
type crowdNews struct {
	Clients     int
	Least, Most int // messages of a client
	Lost        int // clients that are gone
}

// serveCrowd is the life of a crowd.
func serveCrowd() error {
	var r recipients
	return bed.AnswerLines(func(o crowdOrder) (any, error) {
		if o.Clients > 0 {
			if err := r.connect(&o); err != nil {
				return nil, err
			}
		} else if err := r.await(o.Messages); err != nil {
			return nil, err
		}
		return r.news(), nil
	})
}

// recipients are the clients of a crowd.
type recipients struct {
	got  []*atomic.Int64 // messages, by client
	lost atomic.Int64
}

func (r *recipients) connect(o *crowdOrder) error {
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed []error
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(o.Host)}}
	for range o.Clients {
		slots <- struct{}{}
		got := new(atomic.Int64)
		r.got = append(r.got, got)
		group.Go(func() {
			defer func() { <-slots }()
			c, err := bed.DialClient(context.Background(), dialer, o.Address, o.Path, "")
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, err)
				return
			}
			go func() { // ends with the process
				_ = c.Read(func([]byte) { got.Add(1) })
				r.lost.Add(1)
			}()
		})
	}
	group.Wait()
	if len(failed) > 0 {
		return fmt.Errorf("%d clients did not get in: %w", len(failed), errors.Join(
			failed[:min(3, len(failed))]...,
		))
	}
	return nil
}

func (r *recipients) await(messages int) error {
	p := testkit.NewPatience()
	defer p.Stop()
	for r.news().Least < messages {
		<-p.Turn()
		if p.IsOver() {
			return fmt.Errorf("want %d messages, have %+v", messages, r.news())
		}
	}
	return nil
}

func (r *recipients) news() crowdNews {
	counts := make([]int, len(r.got))
	for i, got := range r.got {
		counts[i] = int(got.Load())
	}
	return crowdNews{
		Clients: len(counts), Least: slices.Min(counts),
		Most: slices.Max(counts), Lost: int(r.lost.Load()),
	}
}

// audience is clients at all hubs, with a process for the clients of each hub.
type audience struct {
	namespace string
	helpers   []*bed.Helper
	sent      int // messages to each
}

// gather brings an audience in: so many clients at each hub.
func (c *cluster) gather(t *testing.T, each int, namespace string) *audience {
	t.Helper()
	return gatherAt(t, c.nodes, each, namespace)
}

func gatherAt(t *testing.T, nodes []*node, each int, namespace string) *audience {
	t.Helper()
	a := &audience{namespace: namespace}
	for _, n := range nodes {
		path, err := n.invite(t.Context(), &tally.Member{Namespace: namespace, User: "one-of-many"})
		if err != nil {
			t.Fatal(err)
		}
		h := bed.StartHelper(t, crowdRole)
		h.Tell(t, crowdOrder{Clients: each, Host: n.host, Address: n.Clients, Path: path})
		a.helpers = append(a.helpers, h)
	}
	for _, h := range a.helpers {
		var news crowdNews
		h.Hear(t, &news)
	}
	return a
}

// await waits until each client has all messages, once, and returns the number of clients.
func (a *audience) await(t *testing.T) (clients int) {
	t.Helper()
	for _, h := range a.helpers {
		h.Tell(t, crowdOrder{Messages: a.sent})
	}
	for _, h := range a.helpers {
		var news crowdNews
		h.Hear(t, &news)
		clients += news.Clients
		if news.Least != a.sent || news.Most != a.sent || news.Lost > 0 {
			t.Errorf("clients have %+v, want %d messages each", news, a.sent)
		}
	}
	return clients
}
