package hub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
)

func TestResumeCarriesOnWhereTheClientWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c := connectAs(t, h, numbered{}, "ann", "g")
		old := c.link
		send(t, h, toGroup("g", "one"))
		send(t, h, toGroup("g", "two"))
		if err := c.Ack(1); err != nil {
			t.Fatal(err)
		}
		token := old.token(t)
		c.lose()
		d := send(t, h, toGroup("g", "three"))
		if r := d.Receipt(); r.QueuedDetached != 1 || sum(t, r) != 0 {
			t.Errorf("sent to a detached connection: %+v", r)
		}
		time.Sleep(59 * time.Second)
		for _, wrong := range []string{"", "x", strings.Repeat("a", len(token))} {
			if _, err := h.Resume(
				t.Context(), DefaultNamespace, string(c.ID()), wrong,
			); !errors.Is(err, ErrResumeRefused) {
				t.Errorf("resume with token %q: %v", wrong, err)
			}
		}
		back, err := h.Resume(t.Context(), DefaultNamespace, string(c.ID()), token)
		if err != nil || back.Connection != c.Connection {
			t.Fatal(err)
		}
		c.resume(t, token)
		if diff := cmp.Diff(
			[]string{"2 gg:two", "3 gg:three"}, c.link.numberedFrames(t),
		); diff != "" {
			t.Error(diff)
		}
		second := c.link.token(t)
		c.resume(t, token) // the greeting of the second link was lost
		if third := c.link.token(t); third != second {
			t.Errorf("greeted with %q, and with %q after the same token", second, third)
		}
		c.resume(t, second)
		if _, err := h.Resume(
			t.Context(), DefaultNamespace, string(c.ID()), token,
		); !errors.Is(err, ErrResumeRefused) {
			t.Errorf("the first token, though its client had a newer one: %v", err)
		}
		if err := c.Ack(99); !errors.Is(err, ErrAckForged) {
			t.Errorf("ack of what was never sent: %v", err)
		}
		if r := d.Receipt(); r.Written != 1 {
			t.Errorf("after the resume: %+v", r)
		}
	})
}

// A client asks for its connection, gives up that link, asks again, and is greeted. Then the hub
// binds the link that the client gave up.
func TestALinkThatTheClientGaveUpDoesNotReplaceANewerOne(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann", "g")
	token := c.link.token(t)
	givenUp, err := h.Resume(t.Context(), DefaultNamespace, string(c.ID()), token)
	if err != nil {
		t.Fatal(err)
	}
	c.resume(t, token)
	newest := c.link.token(t)
	if err := givenUp.Bind(&memory{connection: c.Connection}); !errors.Is(err, ErrResumeRefused) {
		t.Errorf("bind of a link that was given up: %v", err)
	}
	send(t, h, toGroup("g", "hi"))
	if diff := cmp.Diff([]string{"1 gg:hi"}, c.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	c.resume(t, newest)
}

// A request of the client comes again, as proxies repeat it, and no client reads the greeting of
// the repeated request. The token of the first greeting is valid all the same.
func TestARequestThatComesAgainDoesNotLockItsClientOut(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann", "g")
	shown := c.link.token(t)
	c.resume(t, shown)
	read := c.link.token(t)
	for range 3 {
		c.resume(t, shown)
		c.Unbind(c.link, cause.Lost.CloseStatus())
	}
	send(t, h, toGroup("g", "hi"))
	c.resume(t, read)
	if diff := cmp.Diff([]string{"1 gg:hi"}, c.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	for _, old := range []string{shown, "made up"} {
		if _, err := h.Resume(
			t.Context(), DefaultNamespace, string(c.ID()), old,
		); !errors.Is(err, ErrResumeRefused) {
			t.Errorf("resume by %q, after the next token was shown: %v", old, err)
		}
	}
	if next := c.link.token(t); next == read || next == shown {
		t.Errorf("the token %s comes again", next)
	}
}

func TestANewLinkTakesOverFromOneThatLooksAlive(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "", "g")
	old := c.link
	old.stall(true)
	send(t, h, toGroup("g", "hi"))
	c.bind(t)
	if diff := cmp.Diff([]string{"1 gg:hi"}, c.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	if len(old.closed) != 1 || old.closed[0].Code != 0 {
		t.Errorf("the old link was told %v, want to end without a word", old.closed)
	}
	if info := c.Info(); info.Phase != PhaseAttached {
		t.Errorf("phase %d, want attached", info.Phase)
	}
}

func TestTimeEndsWhatNobodyComesBackTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(c *Config) { c.Window.Messages = 1 })
		detached := connectAs(t, h, numbered{}, "", "g")
		stuck := connectAs(t, h, numbered{}, "", "g")
		send(t, h, toGroup("g", "one"))
		detached.lose()
		d := send(t, h, toGroup("g", "two")) // waits for the window
		time.Sleep(29 * time.Second)
		if err := stuck.Ack(1); err != nil {
			t.Fatal(err)
		}
		send(t, h, toGroup("g", "three"))
		time.Sleep(30*time.Second + time.Millisecond)
		if how, closed := stuck.Ended(); !closed || how.Cause != cause.AckStuck {
			t.Errorf("30 s without an ack: %v", how)
		}
		if _, closed := detached.Ended(); closed {
			t.Error("closed before the resume window was over")
		}
		time.Sleep(time.Second)
		if how, closed := detached.Ended(); !closed || how.Cause != cause.ResumeExpired {
			t.Errorf("after the resume window: %v", how)
		}
		if r := d.Receipt(); sum(t, r) != 1 || r.Written != 1 {
			t.Errorf("receipt %+v, want one dropped, one written", r)
		}
	})
}

// An ack that a client sent in time may wait to be read when the time is over.
func TestAckThatHasArrivedCountsWhenItsTimeIsOver(t *testing.T) {
	for _, confirms := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := newHub(t, func(c *Config) { c.Window.Messages = 1 })
			c := connectAs(t, h, numbered{}, "ann", "g")
			c.link.stirs = true
			send(t, h, toGroup("g", "fills the window"))
			send(t, h, toGroup("g", "waits"))
			time.Sleep(h.config.AckTimeout + time.Millisecond)
			if how, ended := c.Ended(); ended {
				t.Fatalf("closed though the link has something to read: %v", how)
			}
			if confirms {
				if err := c.Ack(1); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(returnPatience)
			if how, ended := c.Ended(); ended == confirms {
				t.Errorf("it confirmed: %t; it is closed: %t, %v", confirms, ended, how)
			}
		})
	}
}

// A client that comes back, and reads so little that its tail is never written again, has no more
// time than any client.
func TestClientThatComesBackAndReadsNothingIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(c *Config) { c.Window.Messages = 1 })
		c := connectAs(t, h, numbered{}, "ann", "g")
		send(t, h, toGroup("g", "fills the window"))
		send(t, h, toGroup("g", "waits"))
		time.Sleep(10 * time.Second)
		back, err := h.Resume(t.Context(), DefaultNamespace, string(c.ID()), c.link.token(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Bind(&memory{connection: c.Connection, stalled: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(h.config.AckTimeout - 10*time.Second - time.Nanosecond)
		synctest.Wait()
		if how, ended := c.Ended(); ended {
			t.Errorf("it ended too early: %v", how)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if how, _ := c.Ended(); how.Cause != cause.AckStuck {
			t.Errorf("it ended with %v", how)
		}
	})
}

func TestClientWhoseTailIsFullAgainAndAgainAndWhoConfirmsStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, func(c *Config) { c.Window.Messages = 1 })
		c := connectAs(t, h, numbered{}, "ann", "g")
		send(t, h, toGroup("g", "0"))
		for n := uint64(1); n < 10; n++ {
			send(t, h, toGroup("g", "x"))
			time.Sleep(h.config.AckTimeout * 2 / 3)
			if err := c.Ack(n); err != nil {
				t.Fatalf("ack %d: %v", n, err)
			}
		}
	})
}

// The time in which a client must confirm something goes on while it is away. A client that comes
// back late has a few seconds, but not for ever.
func TestClientThatComesBackAndNeverConfirmsIsClosed(t *testing.T) {
	for _, tc := range []struct{ there, away, closed time.Duration }{
		{time.Hour, 0, 30 * time.Second},
		{12 * time.Second, 12 * time.Second, 30 * time.Second},
		{29 * time.Second, 59 * time.Second, 93 * time.Second},
		// not at 41 and 82, when it leaves again at once
		{time.Second, 40 * time.Second, 123 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			began, closed := time.Now(), make(whenClosed, 1)
			h := newHub(t, observeCloses(closed), func(c *Config) { c.Window.Messages = 1 })
			c := connectAs(t, h, numbered{}, "ann", "g")
			send(t, h, toGroup("g", "one"))
			send(t, h, toGroup("g", "two"))
			for time.Sleep(tc.there); len(closed) == 0 &&
				time.Since(began) < time.Hour; time.Sleep(tc.there) {
				token := c.link.token(t)
				c.lose()
				time.Sleep(tc.away)
				c.resume(t, token)
				synctest.Wait()
			}
			if got := (<-closed).Sub(began); got != tc.closed {
				t.Errorf("there for %v, away for %v: closed after %v, want %v",
					tc.there, tc.away, got, tc.closed)
			}
		})
	}
}

// whenClosed is an observer that tells when a connection was closed.
type whenClosed chan time.Time

func (w whenClosed) Applied(*Connection, Op) { w <- time.Now() }

func TestOnlyALostLinkDetaches(t *testing.T) {
	h := newHub(t)
	for _, tc := range []struct {
		protocol Protocol
		cause    cause.Cause
		detaches bool
	}{
		{numbered{}, cause.Lost, true},
		{numbered{}, cause.PingTimeout, true},
		{numbered{}, cause.Client, false},
		{numbered{}, cause.Protocol, false},
		{bare{}, cause.Lost, false},
	} {
		c := connectAs(t, h, tc.protocol, "")
		c.Unbind(c.link, tc.cause.CloseStatus())
		if got := c.Info().Phase == PhaseDetached; got != tc.detaches {
			t.Errorf("%s, %v: detached %v", tc.protocol.Name(), tc.cause, got)
		}
		c.Close(cause.Backend.CloseStatus())
	}
}

func TestCloseIsFinalAndHasOneCause(t *testing.T) {
	h := newHub(t)
	c := connect(t, h, "ann", "g")
	if !c.Close(cause.CloseStatus{Cause: cause.Backend, Code: 4001, Reason: "bye"}) || c.Close(
		cause.Slow.CloseStatus(),
	) {
		t.Error("the first close counts, and only it")
	}
	if diff := cmp.Diff(
		[]cause.CloseStatus{{Cause: cause.Backend, Code: 4001, Reason: "bye"}}, c.link.closed,
	); diff != "" {
		t.Error(diff)
	}
	if how, _ := c.Ended(); how.Cause != cause.Backend {
		t.Errorf("ended with %v", how)
	}
	if r := send(t, h, toGroup("g", "late")).Receipt(); r.Matched != 0 ||
		h.Len() != 0 || len(h.namespaces) != 0 {
		t.Errorf("a closed connection still matches: %+v", r)
	}
	if err := c.Bind(&memory{connection: c.Connection}); !errors.Is(err, ErrClosed) {
		t.Errorf("bind after close: %v", err)
	}
	if _, err := c.joinGroup("g"); !errors.Is(err, ErrClosed) {
		t.Errorf("join after close: %v", err)
	}
	if err := c.Ack(1); !errors.Is(err, ErrClosed) {
		t.Errorf("ack after close: %v", err)
	}
}

func TestAnOrderlyCloseComesBehindWhatIsQueued(t *testing.T) {
	for _, tc := range []struct {
		cause   cause.Cause
		written int
	}{{cause.Backend, 1}, {cause.Shutdown, 1}, {cause.PolicyViolation, 0}} {
		h := newHub(t)
		c := connect(t, h, "", "g")
		c.link.stall(true)
		c.link.lingers = true
		d := send(t, h, toGroup("g", "last words"))
		c.Close(tc.cause.CloseStatus())
		if r := send(t, h, toGroup("g", "after")).Receipt(); r.Matched != 0 {
			t.Errorf("%v: a closing connection matches: %+v", tc.cause, r)
		}
		c.link.stall(false) // the wire has room at last
		c.Unbind(c.link, tc.cause.CloseStatus())
		if r := d.Receipt(); r.Written != tc.written || sum(t, r) != 1-tc.written {
			t.Errorf("%v: %+v, want %d written", tc.cause, r, tc.written)
		}
	}
}

// manual is a link that writes when the test says so.
type manual struct{ batch Batch }

func (*manual) Flush()                  {}
func (*manual) Prefetch(int)            {}
func (*manual) Stirs() bool             { return false }
func (*manual) Close(cause.CloseStatus) {}

func TestWhatALinkTookIsCountedByWhatItWrites(t *testing.T) {
	h := newHub(t)
	c, err := h.Attach(t.Context(), Admission{
		Namespace: DefaultNamespace, Groups: []string{"g"}, Protocol: bare{},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := &manual{}
	if err := c.Bind(l); err != nil {
		t.Fatal(err)
	}
	var sent []*Delivery
	for range 3 {
		sent = append(sent, send(t, h, toGroup("g", "hi")))
	}
	if !c.Take(l, &l.batch, 12) || l.batch.Units(len(l.batch.Bytes)) != 2 {
		t.Fatalf("took %d bytes, want two messages", len(l.batch.Bytes))
	}
	c.Close(cause.Slow.CloseStatus())
	if c.Take(l, &Batch{}, 12) {
		t.Error("a link gets more after a close that is not orderly")
	}
	c.Written(l, 1) // the second message is cut short
	c.Unbind(l, cause.Slow.CloseStatus())
	for i, want := range []int{1, 0, 0} {
		if r := sent[i].Receipt(); r.Written != want || sum(t, r) != 1-want {
			t.Errorf("message %d: %+v, want %d written", i, r, want)
		}
	}
}

func TestClosingTooManyClosesNone(t *testing.T) {
	h := newHub(t)
	for range 3 {
		connect(t, h, "ann")
	}
	target := &Target{Users: []string{"ann"}}
	if r, err := h.CloseConnections(
		t.Context(), DefaultNamespace, target, cause.Backend.CloseStatus(), 2,
	); !errors.Is(err, ErrTooManyMatched) || h.Len() != 3 {
		t.Errorf("%+v, %v, %d left", r, err, h.Len())
	}
	r, err := h.CloseConnections(
		t.Context(), DefaultNamespace, target, cause.Backend.CloseStatus(), 3,
	)
	if want := (Closed{3, 3}); err != nil || r != want || h.Len() != 0 {
		t.Errorf("%+v, %v, %d left", r, err, h.Len())
	}
}

func TestAFullHubRefuses(t *testing.T) {
	h := newHub(t, func(c *Config) { c.MaxConnections = 1 })
	c := connect(t, h, "")
	a := Admission{Namespace: "other", Protocol: bare{}}
	if _, err := h.Attach(t.Context(), a); !errors.Is(err, ErrTooManyConnections) {
		t.Errorf("attach to a full hub: %v", err)
	}
	c.Close(cause.Backend.CloseStatus())
	if _, err := h.Attach(t.Context(), a); err != nil {
		t.Errorf("attach when there is room again: %v", err)
	}
}

func TestShutdownClosesEverybodyAndWaitsForTheLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c := connectAs(t, h, numbered{}, "")
		slow := connect(t, h, "")
		slow.link.lingers = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown with a link that stays: %v", err)
		}
		if diff := cmp.Diff(
			[]cause.CloseStatus{cause.Shutdown.CloseStatus()}, c.link.closed,
		); diff != "" {
			t.Error(diff)
		}
		time.AfterFunc(time.Second, func() { slow.Unbind(slow.link, cause.Shutdown.CloseStatus()) })
		if err := h.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if _, err := h.Attach(
			t.Context(), Admission{Namespace: "x", Protocol: bare{}},
		); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("attach: %v", err)
		}
		if _, err := h.Deliver(t.Context(), toGroup("g", "")); !errors.Is(err, ErrShuttingDown) {
			t.Errorf("deliver: %v", err)
		}
	})
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		const clients = 1000
		for range clients {
			c, err := h.Attach(
				t.Context(), Admission{Namespace: DefaultNamespace, Protocol: bare{}},
			)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Bind(&costly{}); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("shutdown took %v with a second to do it", took)
		}
	})
}

// costly is a link that takes long to close.
type costly struct{ _ int }

func (*costly) Flush()                  {}
func (*costly) Prefetch(int)            {}
func (*costly) Stirs() bool             { return false }
func (*costly) Close(cause.CloseStatus) { time.Sleep(100 * time.Millisecond) }

func TestConfigNamesAllThatIsWrong(t *testing.T) {
	bad := Config{NamespaceOverflow: map[string]overflow.Policy{"Bad Name": overflow.Conflate}}
	_, err := New(bad)
	for _, field := range []string{
		"ID", "MaxConnections", "Outbox.Messages", "Outbox.Bytes", "Window.Messages",
		"Window.Bytes",
		"AckTimeout", "ResumeWindow", "RequestIDs", "Overflow", "Bad Name",
	} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
}

func TestTheNamespacesPolicyApplies(t *testing.T) {
	h := newHub(t, func(c *Config) {
		c.Outbox.Messages = 1
		c.NamespaceOverflow = map[string]overflow.Policy{DefaultNamespace: overflow.DropNewest}
	})
	c := connect(t, h, "", "g")
	c.link.stall(true)
	send(t, h, toGroup("g", "one"))
	r := send(t, h, toGroup("g", "two")).Receipt()
	if diff := cmp.Diff([]DropCount{{cause.DropOverflowNewest, 1}}, r.Dropped); diff != "" {
		t.Error(diff)
	}
	s := toGroup("g", "three")
	s.Policy = overflow.CloseSlow
	r = send(t, h, s).Receipt()
	if how, closed := c.Ended(); !closed || how.Cause != cause.Slow || sum(t, r) != 1 {
		t.Errorf("ended %v, receipt %+v", how, r)
	}
}
