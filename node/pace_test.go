package node

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/plain"
)

// timed is a link that records when it is closed.
type timed struct {
	closed time.Time
	costs  time.Duration // of its close
}

func (*timed) Flush()       {}
func (*timed) Prefetch(int) {}
func (*timed) Stirs() bool  { return false }
func (l *timed) Close(cause.CloseStatus) {
	l.closed = time.Now()
	time.Sleep(l.costs)
}

func newHub(t *testing.T) *hub.Hub {
	t.Helper()
	c := hub.DefaultConfig()
	c.ID, c.Name, c.MaxConnections = hub.NewID(), "test", 20_000
	h, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// attachTimed attaches connections with timed links, in a group.
func attachTimed(
	t *testing.T, h *hub.Hub, count int,
) (all []*hub.Connection, links []*timed) {
	t.Helper()
	bare := framing.WebSocket(plain.Protocol{})
	for range count {
		c, err := h.Attach(t.Context(), hub.Admission{
			Namespace: hub.DefaultNamespace, Protocol: bare, Groups: []string{"g"},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &timed{}
		if err := c.Bind(l); err != nil {
			t.Fatal(err)
		}
		all, links = append(all, c), append(links, l)
	}
	return all, links
}

// closeEvenly runs an exodus of a hub without peers.
func closeEvenly(ctx context.Context, h *hub.Hub, period time.Duration, closed func(count int)) {
	(&exodus{hub: h, period: period, closed: closed}).run(ctx)
}

func TestADrainSpreadsItsClosesEvenlyOverThePeriod(t *testing.T) {
	const period = 30 * time.Second
	for _, clients := range []int{0, 1, 2, 7, 500, 10_000} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t)
			_, links := attachTimed(t, h, clients)
			began, counted := time.Now(), 0
			closeEvenly(t.Context(), h, period, func(count int) { counted += count })
			took := time.Since(began)
			if counted != clients || h.Len() != 0 {
				t.Fatalf("%d clients: %d closed, %d left", clients, counted, h.Len())
			}
			most := max(1, period/time.Duration(max(1, clients)))
			if want := period - most; took > period || clients > 0 && took < want-drainStep {
				t.Errorf("%d clients: done after %v, want %v", clients, took, want)
			}
			requireEven(t, links, began, period)
		})
	}
}

// requireEven proves that each tenth of the period had a tenth of the closes, give or take those of
// a step.
func requireEven(t *testing.T, links []*timed, began time.Time, period time.Duration) {
	t.Helper()
	var tenths [10]int
	for _, l := range links {
		tenths[min(9, l.closed.Sub(began)*10/period)]++
	}
	for i, got := range tenths {
		if want := len(links) / 10; got < want-4 || got > want+4 {
			t.Errorf("%d clients: %d closed in tenth %d, want about %d", len(links), got, i, want)
		}
	}
}

func TestADrainIsEvenAlsoWhereAStepTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 3 * time.Second
		h := newHub(t)
		_, links := attachTimed(t, h, 500)
		for _, l := range links {
			l.costs = 2 * time.Millisecond
		}
		began := time.Now()
		closeEvenly(t.Context(), h, period, func(int) {})
		requireEven(t, links, began, period)
	})
}

func TestClientsThatLeaveByThemselvesSlowADrainDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		all, _ := attachTimed(t, h, 1000)
		const period = 10 * time.Second
		began, closed := time.Now(), 0
		time.AfterFunc(period/2, func() {
			for _, c := range all {
				c.Close(cause.Client.CloseStatus()) // no effect where the drain came first
				if h.Len() <= 100 {
					return
				}
			}
		})
		var late int
		closeEvenly(t.Context(), h, period, func(count int) {
			closed += count
			if time.Since(began) > period/2 {
				late += count
			}
		})
		if took := time.Since(began); took < period*9/10 || took > period {
			t.Errorf("done after %v, want the whole period", took)
		}
		if late < 90 || late > 110 || closed > 620 {
			t.Errorf("%d closed, %d of them in the second half, want about 600 and 100",
				closed, late)
		}
	})
}

func TestADrainEndsWithItsContextAndServesUntilThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		attachTimed(t, h, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		closeEvenly(ctx, h, time.Hour, func(int) {})
		if h.Len() != 9 {
			t.Errorf("%d connections left, want all but the first", h.Len())
		}
		d, err := h.Deliver(t.Context(), &hub.Send{
			Target:  hub.Target{Groups: []string{"g"}},
			Message: &hub.Message{Namespace: hub.DefaultNamespace},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Receipt().Matched; got != 9 {
			t.Errorf("a send meanwhile matched %d, want the 9 that are left", got)
		}
	})
}
