package process

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// crowd are clients that wait for their close.
type crowd struct {
	reading sync.WaitGroup

	mu     sync.Mutex
	closed []time.Time // guarded by mu
	wrong  []error     // guarded by mu; other ends than 1001
}

// dialCrowd connects clients to a hub. Each waits for its close.
func dialCrowd(t *testing.T, address string, count int) *crowd {
	t.Helper()
	all := &crowd{}
	var dialling sync.WaitGroup
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	for range count {
		dialling.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c, err := bed.DialClient(t.Context(), net.Dialer{}, address, "/ws", "")
			if err != nil {
				t.Error(err)
				return
			}
			all.reading.Go(func() {
				defer func() { _ = c.Conn.Close() }()
				all.noteEnd(c.Read(func([]byte) {}))
			})
		})
	}
	dialling.Wait()
	return all
}

func (c *crowd) noteEnd(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed, ok := errors.AsType[bed.ClosedError](err); !ok || closed.Code != 1001 {
		c.wrong = append(c.wrong, err)
	}
	c.closed = append(c.closed, time.Now())
}

// requireSpread proves that no close came before its turn: 1001s, spread evenly over a period that
// began at start or later.
func (c *crowd) requireSpread(t *testing.T, start time.Time, period time.Duration) {
	t.Helper()
	c.reading.Wait()
	for _, err := range c.wrong {
		t.Errorf("a client sees %v, want 1001", err)
	}
	slices.SortFunc(c.closed, time.Time.Compare)
	const step = 20 * time.Millisecond // closes share wake-ups
	for i, at := range c.closed {
		turn := period * time.Duration(i) / time.Duration(len(c.closed))
		if after := at.Sub(start); after < turn-step {
			t.Fatalf("close %d of %d came after %v, want %v or later", i, len(c.closed), after,
				turn)
		}
	}
}

func TestSIGTERMServesOnForTheDelayAndThenSpreadsTheCloses(t *testing.T) {
	t.Parallel()
	const clients, delay, period = 500, 2 * time.Second, 3 * time.Second
	p := bed.StartAlone(t, "--drain-delay="+delay.String(), "--drain-period="+period.String())
	all := dialCrowd(t, p.Clients, clients)

	meter := p.NewMeter()
	defer meter.Stop()
	began := time.Now()
	p.Signal(t, syscall.SIGTERM)
	_ = testkit.WaitForLog(t, p.Log, "drain begins")
	if code, body := p.Ask(t, "/readyz"); code != 503 || body != "draining\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	late := testkit.DialClient(t, p.Clients, "user=ann")
	requireServing(t, p, late, "during the delay")
	_ = late.Close(websocket.StatusNormalClosure, "")

	_ = testkit.WaitForLog(t, p.Log, "drain closes clients")
	if took := time.Since(began); took < delay {
		t.Errorf("clients are closed after %v, want %v", took, delay)
	}
	testkit.Eventually(t, "new clients are refused", func() bool {
		conn, _, err := websocket.Dial(t.Context(), "ws://"+p.Clients+"/ws", nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err != nil
	})
	all.requireSpread(t, began.Add(delay), period)
	if code := p.ExitCodeWithin(t, meter, delay+period+10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, p.Log)
	}
	line := testkit.WaitForLog(t, p.Log, "drained")
	if line["closed"] != float64(clients) || line["left_open"] != 0.0 {
		t.Errorf("the log says %v", line)
	}
}

func TestASecondSignalEndsADrainAtOnce(t *testing.T) {
	t.Parallel()
	for phase, flags := range map[string][]string{
		"drain begins":         {"--drain-delay=1h", "--drain-period=0s"},
		"drain closes clients": {"--drain-delay=0s", "--drain-period=1h"},
	} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			p := bed.StartAlone(t, flags...)
			for range 2 { // the first is closed at once
				testkit.DialClient(t, p.Clients, "")
			}
			p.Signal(t, syscall.SIGTERM)
			_ = testkit.WaitForLog(t, p.Log, phase)
			<-time.After(secondSignalAfter) // earlier it is no second one
			p.Signal(t, syscall.SIGTERM)
			if code := p.ExitCode(t, time.Second); code != terminal.ExitError {
				t.Errorf("exit %d", code)
			}
		})
	}
}
