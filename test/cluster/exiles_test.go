package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// exileRole is the role of clients that look for a hub again when theirs is gone. They are too many
// for the process of the tests.
const exileRole = "exiles"

const (
	// exilePause is the pause of a client that reached no hub.
	exilePause = 100 * time.Millisecond
	// exilesAtOnce is how many clients look for their first hub at once.
	exilesAtOnce = 64
)

// exileOrder is an order to the clients. With Clients, so many connect to Doors. Without, Doors are
// for those that lose their hub from now on, and the answer comes when all have lost it, and have a
// link again.
type exileOrder struct {
	Clients int
	Doors   []string // addresses of hubs
	Path    string   // with a token
}

// exileNews is how the clients stand.
type exileNews struct {
	Clients, Linked int           // all, and those with a link
	Lost            int           // links that have ended
	Refusals        int           // handshakes that were answered with 503
	Failures        int           // dials and handshakes without an answer
	Took            time.Duration // from the first lost link to the latest return
}

// serveExiles is the life of the clients.
func serveExiles() error {
	e := &exiles{}
	return bed.AnswerLines(func(o exileOrder) (any, error) {
		e.mu.Lock()
		e.doors = o.Doors
		e.news.Clients += o.Clients
		e.mu.Unlock()
		if o.Clients == 0 {
			return &e.news, e.await(func() bool {
				return e.news.Lost == e.news.Clients && e.news.Linked == e.news.Clients
			})
		}
		slots := make(chan struct{}, exilesAtOnce)
		for i := range o.Clients {
			slots <- struct{}{}
			linked := sync.OnceFunc(func() { <-slots })
			go e.live(i, o.Path, linked) // ends with the process
		}
		return &e.news, e.await(func() bool { return e.news.Linked == e.news.Clients })
	})
}

// exiles are clients that look for a hub again when theirs is gone.
type exiles struct {
	mu    sync.Mutex
	doors []string
	first time.Time // when the first link was lost
	news  exileNews
}

// await waits until holds, which it calls under the lock.
func (e *exiles) await(holds func() bool) error {
	p := testkit.NewPatience()
	defer p.Stop()
	for {
		e.mu.Lock()
		done, news := holds(), e.news
		e.mu.Unlock()
		if done {
			return nil
		}
		<-p.Turn()
		if p.IsOver() {
			return fmt.Errorf("clients without a hub: %+v", news)
		}
	}
}

// live connects again and again. Each client has an address of its own.
func (e *exiles) live(number int, path string, linked func()) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{
		IP: net.IPv4(127, 1, byte(number>>8), byte(number)), //nolint:gosec // below 65,536
	}}
	for {
		e.mu.Lock()
		door := e.doors[rand.IntN(len(e.doors))]
		e.mu.Unlock()
		c, err := bed.DialClient(context.Background(), dialer, door, path, "")
		if err != nil {
			<-time.After(e.noteFailure(err))
			continue
		}
		linked()
		e.noteLink()
		_ = c.Read(func([]byte) {})
		e.noteLoss()
	}
}

// noteFailure returns the pause until the client may try again.
func (e *exiles) noteFailure(err error) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if refused, ok := errors.AsType[bed.RefusedError](err); ok {
		e.news.Refusals++
		return refused.RetryAfter
	}
	e.news.Failures++
	return exilePause
}

func (e *exiles) noteLink() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.news.Linked++
	if !e.first.IsZero() {
		e.news.Took = time.Since(e.first)
	}
}

func (e *exiles) noteLoss() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.news.Lost == 0 {
		e.first = time.Now()
	}
	e.news.Linked--
	e.news.Lost++
}
