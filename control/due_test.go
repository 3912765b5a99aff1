package control

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/waitlist"
)

// waitsForClients are the waits that clients end.
var waitsForClients = []controlv1.Wait{controlv1.Wait_WAIT_WRITTEN, controlv1.Wait_WAIT_ACKED}

func TestASendWithNothingPendingHasItsResultAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.connect(t, &wireProtocol{}, "ann") // its client takes all, and confirms nothing
		b := f.stream(t.Context(), t)
		start := time.Now()
		sequence := int64(1)
		for _, wait := range waitsForClients {
			for _, user := range []string{"nobody", "ann"} {
				b.send(t, batch(sequence, waiting(to(users(user), "x"), wait, 5*time.Minute)))
				sequence++
			}
		}
		b.until(t, func() bool { return len(b.results) == int(sequence)-1 })
		if took := time.Since(start); took > maxHold {
			t.Errorf("results after %v", took)
		}
	})
}

// A stream may have many sends that wait for clients. Each is an entry in a list.
func TestSendsThatWaitForClientsHaveNoGoroutine(t *testing.T) {
	for _, wait := range waitsForClients {
		t.Run(fmt.Sprint(wait), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				p := &ackedProtocol{}
				stalled := f.connect(t, p, "ann")
				stalled.stall(true)
				b := f.stream(t.Context(), t)
				synctest.Wait()
				before := runtime.NumGoroutine()
				send := waiting(to(users("ann"), "x"), wait, time.Minute)
				send.RequestId = "one message, many waits"
				sends := make([]*controlv1.SendRequest, maxUnanswered)
				for i := range sends {
					sends[i] = send
				}
				b.send(t, batch(1, sends...))
				b.until(t, func() bool { return b.accepted == maxUnanswered })
				synctest.Wait()
				if n := runtime.NumGoroutine() - before; n > 10 {
					t.Errorf("%d goroutines for %d waits", n, maxUnanswered)
				}
				start := time.Now()
				b.until(t, func() bool { return len(b.results) == maxUnanswered })
				if took := time.Since(start).Round(time.Second); took != time.Minute {
					t.Errorf("results after %v, want when the wait runs out", took)
				}
				b.send(t, batch(maxUnanswered+1, waiting(
					to(users("ann"), "y"), controlv1.Wait_WAIT_WRITTEN, time.Minute,
				)))
				b.until(t, func() bool { return b.accepted == maxUnanswered+1 })
				start = time.Now()
				stalled.stall(false)
				b.until(t, func() bool { return len(b.results) == maxUnanswered+1 })
				if took := time.Since(start); took > time.Second {
					t.Errorf("a message that was written has its result after %v", took)
				}
			})
		})
	}
}

// The time of a send may be over before its list has called callWhenDue. The result that is taken
// then must not give away the memory that callWhenDue is about to use.
func TestASendWhoseResultComesBeforeItsListAskedKeepsItsMemory(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &ackedProtocol{}, "ann").stall(true)
	d := &deliveryService{router: &router{hub: f.hub}}
	s := &sendStream{
		service: &streamService{deliveryService: d}, ctx: t.Context(),
		answers: newAnswers(port.Account{}),
		awaited: waitlist.New[begunSend](func() {}),
	}
	s.awaited.End() // it asks for no send any more
	b := newBurst()
	request := waiting(to(users("ann"), "x"), controlv1.Wait_WAIT_ACKED, 0)
	sending, err := d.beginSend(t.Context(), request, sourceCall{}, &b.links)
	if err != nil {
		t.Fatal(err)
	}
	b.links.Flush()
	b.begun = append(b.begun, begunSend{sequence: 1, sending: sending})
	s.answers.admitSend(t.Context(), 0)
	s.acceptSends(b)

	if r := s.awaitResult(1, sending); r.GetReceipt().GetMatched() != 1 {
		t.Fatalf("the result is %v", r)
	}
	sending.callWhenDue(func() {})()
}
