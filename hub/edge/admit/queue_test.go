package admit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/connhub/connhub/hub/edge/admit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newQueue(t *testing.T, c admit.Config) *admit.Queue {
	t.Helper()
	q, err := admit.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// fate is the end of a call of Admit.
type fate struct {
	err error
	at  time.Duration // since the start of the crowd
}

// crowd are clients of a queue, by a number each.
type crowd struct {
	queue *admit.Queue
	began time.Time
	calls sync.WaitGroup

	mu     sync.Mutex
	fates  map[int]fate
	hangUp map[int]context.CancelFunc
}

func newCrowd(q *admit.Queue) *crowd {
	return &crowd{
		queue: q, began: time.Now(), fates: make(map[int]fate),
		hangUp: make(map[int]context.CancelFunc),
	}
}

// ask has a client ask to be admitted, until the queue has decided or holds it.
func (c *crowd) ask(id int, class admit.Class) {
	ctx, cancel := context.WithCancel(context.Background())
	c.hangUp[id] = cancel
	c.calls.Go(func() {
		defer cancel()
		err := c.queue.Admit(ctx, class, nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fates[id] = fate{err, time.Since(c.began)}
	})
	synctest.Wait()
}

// fateOf returns the fate of a client. It returns false while the client is held.
func (c *crowd) fateOf(id int) (fate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.fates[id]
	return f, ok
}

func (c *crowd) wantFate(t *testing.T, id int, err error, at time.Duration) {
	t.Helper()
	if f, decided := c.fateOf(id); !decided || !errors.Is(f.err, err) || f.at != at {
		t.Errorf("client %d: decided %t, %v after %v; want %v after %v",
			id, decided, f.err, f.at, err, at)
	}
}

func TestARateOfZeroIsNoLimit(t *testing.T) {
	q := newQueue(t, admit.Config{Most: 1})
	for range 100_000 {
		if err := q.Admit(t.Context(), admit.Connect, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAConfigWithoutSenseIsRefused(t *testing.T) {
	for _, c := range []admit.Config{
		{Rate: -1, Most: 1}, {Rate: admit.MaxRate + 1, Most: 1}, {Rate: 1},
	} {
		if _, err := admit.New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestClientsOfASecondAreAdmittedAtOnceAndTheNextInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 100, Most: 1000}))
		for id := range 103 {
			c.ask(id, admit.Connect)
		}
		c.calls.Wait()
		for id := range 100 {
			c.wantFate(t, id, nil, 0)
		}
		for id := 100; id < 103; id++ {
			c.wantFate(t, id, nil, time.Duration(id-99)*10*time.Millisecond)
		}
	})
}

func TestLeftIsTheNumberOfClientsThatAreNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 100, Most: 1000}))
		for asked, want := range []int{100, 99, 98} {
			if left := c.queue.Left(); left != want {
				t.Errorf("%d left after %d", left, asked)
			}
			c.ask(asked, admit.Connect)
		}
		time.Sleep(15 * time.Millisecond)
		if left := c.queue.Left(); left != 98 { // one and a half of three have come back
			t.Errorf("%d left", left)
		}
		for id := 3; id < 3+99; id++ {
			if held := id == 3+98; (c.queue.Left() == 0) != held {
				t.Errorf("%d left before client %d", c.queue.Left(), id)
			}
			c.ask(id, admit.Connect)
		}
		if left := c.queue.Left(); left != 0 {
			t.Errorf("%d left while a client is held", left)
		}
		c.calls.Wait()
		if left := newQueue(t, admit.Config{Most: 1}).Left(); left != admit.MaxRate {
			t.Errorf("%d left without a limit", left)
		}
	})
}

func TestAHandshakeIsHeldForFiveSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 1, Most: 1000}))
		c.ask(0, admit.Connect)
		c.ask(1, admit.Connect)
		for id := 2; id < 6; id++ { // they go first, and the last turn within 5 s is theirs
			c.ask(id, admit.Resume)
		}
		time.Sleep(1500 * time.Millisecond)
		c.ask(6, admit.Resume)
		c.calls.Wait()
		for id := 2; id < 7; id++ {
			c.wantFate(t, id, nil, time.Duration(id-1)*time.Second)
		}
		c.wantFate(t, 1, admit.ErrHeldTooLong, admit.MaxHold)
	})
}

func TestAClientThatGoesAwayGivesItsPlaceBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := prometheus.NewRegistry()
		c := newCrowd(newQueue(t, admit.Config{Rate: 1, Most: 2, Metrics: r}))
		for id := range 4 {
			c.ask(id, admit.Connect)
		}
		c.wantFate(t, 3, admit.ErrQueueFull, 0)
		if held, ended := measure(t, r); held != 2 || ended != 0 {
			t.Errorf("%v handshakes are held, and %v were", held, ended)
		}
		c.hangUp[1]()
		synctest.Wait()
		c.wantFate(t, 1, context.Canceled, 0)
		c.ask(4, admit.Connect)
		c.calls.Wait()
		c.wantFate(t, 2, nil, time.Second)
		c.wantFate(t, 4, nil, 2*time.Second)
		if held, ended := measure(t, r); held != 0 || ended != 3 {
			t.Errorf("%v handshakes are held, and %v were", held, ended)
		}
	})
}

// measure returns the handshakes that are held, and those that were.
func measure(t *testing.T, r *prometheus.Registry) (held float64, ended uint64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			held += m.GetGauge().GetValue()
			ended += m.GetHistogram().GetSampleCount()
		}
	}
	return held, ended
}

func TestAResumeTakesThePlaceOfTheNewestNewClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 2, Most: 3}))
		for id := range 5 {
			c.ask(id, admit.Connect)
		}
		c.ask(5, admit.Resume)
		c.wantFate(t, 4, admit.ErrQueueFull, 0)
		c.calls.Wait()
		c.wantFate(t, 5, nil, 500*time.Millisecond)
		c.wantFate(t, 2, nil, time.Second)
		c.wantFate(t, 3, nil, 1500*time.Millisecond)
	})
}

// Ten times as many clients as the rate allows resume for a minute: new clients have their share.
func TestResumesWithoutEndLeaveNewClientsTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, seconds = 8, 60
		c := newCrowd(newQueue(t, admit.Config{Rate: rate, Most: 1000}))
		news := 0
		for i := range seconds * rate * 10 {
			id := 2 * i
			c.ask(id, admit.Resume)
			if i%80 == 0 { // a new client each second, the eighth part of the rate
				c.ask(id+1, admit.Connect)
				news++
			}
			time.Sleep(time.Second / (rate * 10))
		}
		c.calls.Wait()
		admitted := 0
		for id, f := range c.fates {
			if id%2 == 1 && f.err == nil {
				admitted++
			}
		}
		if admitted != news {
			t.Errorf("%d of %d new clients were admitted", admitted, news)
		}
	})
}

func TestCloseRefusesHeldHandshakesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 1, Most: 10}))
		for id := range 4 {
			c.ask(id, admit.Class(id%2))
		}
		time.Sleep(300 * time.Millisecond)
		c.queue.Close()
		c.queue.Close()
		c.calls.Wait()
		for id := 1; id < 4; id++ {
			c.wantFate(t, id, admit.ErrClosed, 300*time.Millisecond)
		}
	})
}

func TestRefusalsAreLoggedOnceInTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCrowd(newQueue(t, admit.Config{
			Rate: 1, Most: 1, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		}))
		for id := range 1000 {
			c.ask(id, admit.Connect)
		}
		time.Sleep(10 * time.Second)
		for id := range 10 {
			c.ask(1000+id, admit.Connect)
		}
		c.calls.Wait()
		if n := strings.Count(log.String(), "clients are refused"); n != 2 ||
			!strings.Contains(log.String(), "connect_rate=1 not_logged=997") {
			t.Errorf("%d lines:\n%s", n, &log)
		}
	})
}
