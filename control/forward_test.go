package control

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/testkit"
)

// A forwarded send that waits takes a goroutine neither at the entry hub nor at the hub of its
// client.
func TestForwardedSendsThatWaitTakeNoGoroutine(t *testing.T) {
	const streams, each, few = 2, maxUnanswered, 32
	c := newCluster(t, 2)
	bob := c.hubs[1].connect(t, &ackedProtocol{}, "bob") // it confirms nothing
	backends := make([]*backend, streams)
	for i := range backends {
		backends[i] = c.hubs[0].stream(t.Context(), t)
	}
	c.hubs[0].send(t, waiting(to(users("bob"), "first"), controlv1.Wait_WAIT_WRITTEN, time.Minute))
	before := runtime.NumGoroutine()
	for _, b := range backends {
		sends := make([]*controlv1.SendRequest, each)
		for i := range sends {
			sends[i] = waiting(to(users("bob"), "x"), controlv1.Wait_WAIT_ACKED, 5*time.Minute)
		}
		b.send(t, batch(1, sends...))
	}
	testkit.Eventually(t, "all is written", func() bool {
		return strings.Count(bob.received(), "x|") == streams*each
	})
	// It takes the same lane: behind its result all those before it wait.
	c.hubs[0].send(t, waiting(to(users("bob"), "last"), controlv1.Wait_WAIT_WRITTEN, time.Minute))
	if more := runtime.NumGoroutine() - before; more > few {
		t.Errorf("%d sends that wait at another hub take %d goroutines", streams*each, more)
	}
	// Where the machine keeps a hub from answering for 500 ms, its results are unknown, and come
	// early.
	unknown := func(b *backend, sequence int64) bool {
		return len(b.receipt(t, sequence).GetUnreachableHubs()) > 0
	}
	for _, b := range backends {
		for sequence := range b.results {
			if !unknown(b, sequence) {
				t.Errorf("send %d has a result: %v", sequence, b.receipt(t, sequence))
			}
		}
	}
	bob.Connection.Close(cause.Client.CloseStatus()) // it will never confirm
	for _, b := range backends {
		b.until(t, func() bool { return len(b.results) == each })
		for sequence := range b.results {
			r := b.receipt(t, sequence)
			if !unknown(b, sequence) && (r.GetMatched() != 1 || r.GetWritten() != 1) {
				t.Fatalf("receipt %v", r)
			}
		}
	}
}

// An execution that waits for its client is Reached once the client's link has written.
func TestAnExecutionIsReachedWhenItsClientHasTheMessage(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &wireProtocol{}, "ann")
	e := &executor{f.hub, nil, slogTo(f.log), newVerbTable(), nil}
	var burst hub.Burst
	execute := func(wait controlv1.Wait) mesh.Execution {
		t.Helper()
		o := newCheckedSend(waiting(to(users("ann"), "hi"), wait, time.Minute), sourceCall{
			began: time.Now(),
		})
		call, err := newSendCall(o)
		if err != nil {
			t.Fatal(err)
		}
		return e.Execute(t.Context(), call.Forward, mesh.Scope{}, &burst)
	}
	if x := execute(controlv1.Wait_WAIT_QUEUED); x.Awaited != nil {
		t.Error("a send that waits for no client has something to ask")
	}
	quick := execute(controlv1.Wait_WAIT_WRITTEN)
	if quick.Awaited.Reached() {
		t.Error("reached before the burst is flushed")
	}
	burst.Flush()
	if !quick.Awaited.Reached() {
		t.Error("not reached, though the link has written")
	}
	ann.stall(true)
	slow, called := execute(controlv1.Wait_WAIT_WRITTEN), false
	burst.Flush()
	if slow.Awaited.Reached() {
		t.Error("reached, though the link is stalled")
	}
	slow.Awaited.Then(func() { called = true })
	ann.stall(false)
	if !slow.Awaited.Reached() || !called {
		t.Errorf("after the stall: reached %v, done was called %v", slow.Awaited.Reached(), called)
	}
	for _, x := range []mesh.Execution{quick, slow} {
		if r := x.Result().GetSend().GetReceipt(); r.GetMatched() != 1 || r.GetWritten() != 1 {
			t.Errorf("receipt %v", r)
		}
	}
}

// slowInterest is a hub.Interest in which nothing is in force before it is told.
type slowInterest struct {
	mu      sync.Mutex
	fast    bool // all is in force at once
	waiting []func(error)
}

var _ hub.Interest = (*slowInterest)(nil)

func (*slowInterest) Add(hub.Key)    {}
func (*slowInterest) Remove(hub.Key) {}

func (s *slowInterest) ThenInForce(_ []hub.Key, done func(error)) (forget func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fast {
		done(nil)
	} else {
		s.waiting = append(s.waiting, done)
	}
	return func() {}
}

// end ends all waits.
func (s *slowInterest) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, done := range s.waiting {
		done(err)
	}
	s.waiting = nil
}

// TestAForwardedJoinTakesNoGoroutine while it waits until it is in force, the hub leaves the
// cluster, or its caller gives up.
func TestAForwardedJoinTakesNoGoroutine(t *testing.T) {
	const joins, few = 2000, 8
	interest := &slowInterest{fast: true}
	h := newHub(t, func(c *hub.Config) { c.Interest = interest })
	f := newFixture(t, func(c *Config) { c.Hub = h })
	f.hub = h
	f.connect(t, &wireProtocol{}, "ann")
	validator, err := form.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{h, validator.Check, slogTo(f.log), newVerbTable(), nil}
	call, err := newVerbCall(t.Context(), &joinVerb, &controlv1.AddToGroupsRequest{
		Target: users("ann"), Groups: []string{"g"},
	})
	if err != nil {
		t.Fatal(err)
	}
	interest.fast = false
	var burst hub.Burst
	for _, tc := range []struct {
		name  string
		end   func()
		ended int
		want  error
	}{
		{"in force", func() { interest.end(nil) }, joins, nil},
		{"the hub leaves", func() {
			interest.end(hub.ErrShuttingDown)
		}, joins, hub.ErrShuttingDown},
		{"too late", func() {}, 0, context.DeadlineExceeded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			var begun []mesh.Execution
			ended := 0
			for range joins {
				x := e.Execute(t.Context(), call.Forward, mesh.Scope{}, &burst)
				x.Awaited.Then(func() { ended++ })
				begun = append(begun, x)
			}
			if more := runtime.NumGoroutine() - before; more > few {
				t.Errorf("%d joins take %d goroutines", joins, more)
			}
			if ended != 0 {
				t.Errorf("%d joins have ended", ended)
			}
			tc.end()
			if ended != tc.ended {
				t.Errorf("%d joins have ended, want %d", ended, tc.ended)
			}
			for _, x := range begun {
				r := x.Result()
				if err := errorIn(r); !errors.Is(err, tc.want) ||
					tc.want == nil && r.GetJoin().GetMatched() != 1 {
					t.Fatalf("result %v, want %v", r, tc.want)
				}
				if late := time.Until(x.Until) - verbTimeout; late > 0 {
					t.Fatalf("a join waits %v longer than its caller", late)
				}
			}
		})
	}
}

// The memory of a send is used again once it has its receipt. A result of a peer that comes as the
// wait ends, or later, must not reach the next send that has the memory.
func TestLateResultsOfPeersReachNoOtherSend(t *testing.T) {
	const sends, each = 2000, 50
	c := newCluster(t, 2)
	c.hubs[0].connect(t, &tinyProtocol{}, "ann") // both hubs take part
	c.hubs[1].connect(t, &tinyProtocol{}, "ann")
	c.settle(t)
	b := c.hubs[0].stream(t.Context(), t)
	for n := 0; n < sends; n += each {
		var some []*controlv1.SendRequest
		for i := range each {
			// About as long as a result takes: some come before the end of the wait, some after.
			wait := time.Duration(i%10) * 200 * time.Microsecond
			send := waiting(to(users("ann"), "x"), waitsForClients[i%2], wait)
			send.RequestId = fmt.Sprint(n + i)
			some = append(some, send)
		}
		b.send(t, batch(int64(n)+1, some...))
		b.until(t, func() bool { return len(b.results) == n+each })
	}
	seen := make(map[string]bool, sends)
	for sequence := range b.results {
		r := b.receipt(t, sequence)
		hubs := int32(2 - len(r.GetUnreachableHubs()))
		if seen[r.GetMessageId()] || r.GetDuplicate() || r.GetMatched() != hubs {
			t.Fatalf("receipt %v", r)
		}
		seen[r.GetMessageId()] = true
	}
}
