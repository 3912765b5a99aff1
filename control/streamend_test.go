package control

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func TestWhatAStreamCanNotTakeEndsItAfterItsResults(t *testing.T) {
	good := func(n int) []*controlv1.SendRequest {
		sends := make([]*controlv1.SendRequest, n)
		for i := range sends {
			sends[i] = to(users("ann"), "bad")
		}
		return sends
	}
	at := func(sequences ...int64) *controlv1.SendStreamRequest {
		req := batch(1, good(len(sequences))...)
		for i, sequence := range sequences {
			req.Sends[i].Sequence = sequence
		}
		return req
	}
	for _, c := range []struct {
		name                       string
		request                    *controlv1.SendStreamRequest
		reason, field, description string
	}{
		{"no sends", &controlv1.SendStreamRequest{}, invalid, "sends", "empty"},
		{"1,001 sends", batch(8, good(1001)...), exceeded, "sends", "1000"},
		{"the same sequence", at(7), invalid, "sends[0].sequence", "above 7"},
		{"a lower sequence", at(6), invalid, "sends[0].sequence", "above 7"},
		{"a sequence twice", at(8, 10, 10), invalid, "sends[2].sequence", "above 10"},
		{"a sequence that falls", at(8, 10, 9), invalid, "sends[2].sequence", "above 10"},
		{"sequence 0", at(0), invalid, "sends[0].sequence", "at least 1"},
		{"sequence -1", at(8, -1), invalid, "sends[1].sequence", "at least 1"},
		{"sequence 2^53", at(8, 1<<53), exceeded, "sends[1].sequence", "9007199254740991"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				ann, slow := f.connect(t, &wireProtocol{}, "ann"), f.connect(
					t, &wireProtocol{}, "slow",
				)
				slow.stall(true)
				b := f.stream(t.Context(), t)
				b.send(t, batch(6, waiting(
					to(users("slow"), "x"), controlv1.Wait_WAIT_WRITTEN, 2*time.Second,
				), to(users("ann"), "x")))
				b.send(t, c.request)
				start := time.Now()
				holdFieldError(t, b.end(t), c.reason, c.field, c.description)
				if took := time.Since(start); took.Round(time.Second) != 2*time.Second ||
					len(b.results) != 2 || b.accepted != 7 {
					t.Errorf("after %v, %d results, accepted %d", took, len(b.results), b.accepted)
				}
				if ann.received() != "x|" {
					t.Errorf("of a request that was refused came %q", ann.received())
				}
			})
		})
	}
}

func TestTheHighestSequenceIsTaken(t *testing.T) {
	f := newFixture(t)
	b := f.stream(t.Context(), t)
	b.send(t, batch(form.MaxSequence, to(users("ann"), "x")))
	b.closeSend(t)
	if err := b.end(t); err != nil || b.accepted != 1<<53-1 || b.results[1<<53-1] == nil {
		t.Errorf("%v, accepted %d", err, b.accepted)
	}
}

// raw sends bytes as a message of a stream, and returns the stream's error.
func (f *fixture) raw(ctx context.Context, t rapid.TB, requests ...[]byte) error {
	t.Helper()
	stream, err := f.conn.NewStream(ctx, &controlv1.DeliveryService_ServiceDesc.Streams[0],
		controlv1.DeliveryService_SendStream_FullMethodName,
		grpc.ForceCodec(rawCodec{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if err := stream.SendMsg(&request); err != nil {
			break
		}
	}
	_ = stream.CloseSend()
	for {
		var response []byte
		if err := stream.RecvMsg(&response); err != nil {
			return err
		}
	}
}

func TestAMessageThatIsNoneEndsAStream(t *testing.T) {
	f := newFixture(t)
	for _, request := range []string{"\xff", "\x0a\x01", "\x0a\x06\x08\x01\x12\x02\x0a\x01"} {
		holdFieldError(
			t, f.raw(t.Context(), t, []byte(request)), invalid, "", "not a protobuf message",
		)
	}
	err := f.raw(t.Context(), t, []byte(long(form.MaxRequestBytes+1)))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("too large: %v", err)
	}
	if log := f.log.String(); log != "" {
		t.Errorf("a backend's fault was logged: %s", log)
	}
}

func TestTheLargestBatchThatIsPromisedIsTaken(t *testing.T) {
	const promised = 4 << 20
	f := newFixture(t)
	req := batch(1, to(users("a"), long(1<<20)), to(users("b"), long(1<<20)),
		to(users("c"), long(1<<20)), to(users("d"), long(1<<20-100)))
	if size := proto.Size(req); size > promised || size < promised-100 {
		t.Errorf("the test's request has %d bytes", size)
	}
	b := f.stream(t.Context(), t)
	b.send(t, req)
	b.until(t, func() bool { return len(b.results) == 4 })
}

func TestClosingAStreamGivesAllResultsThenOK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.connect(t, &wireProtocol{}, "slow").stall(true)
		if err := f.stream(t.Context(), t).CloseSend(); err != nil {
			t.Fatal(err)
		}
		b := f.stream(t.Context(), t)
		b.send(t, batch(1, to(users("slow"), "x"), waiting(
			to(users("slow"), "x"), controlv1.Wait_WAIT_WRITTEN, 2*time.Second,
		)))
		b.closeSend(t)
		start := time.Now()
		if err := b.end(t); err != nil || len(b.results) != 2 || b.goingAway != nil {
			t.Errorf("%v with %d results", err, len(b.results))
		}
		if took := time.Since(start); took.Round(time.Second) != 2*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestACancelledStreamEndsItsWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		code codes.Code
		end  func(f *fixture, cancel func())
		in   time.Duration
	}{
		{"cancelled", codes.Canceled, func(_ *fixture, cancel func()) { cancel() }, 0},
		{"its connection is gone", codes.Canceled, func(f *fixture, _ func()) {
			_ = f.conn.Close()
		}, 0},
		{
			"its deadline passes", codes.DeadlineExceeded,
			func(*fixture, func()) {}, 10 * time.Second,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				b := f.stream(ctx, t)
				f.attach(t, &wireProtocol{}, "away") // without a link
				send := waiting(to(users("away"), "x"), controlv1.Wait_WAIT_WRITTEN, time.Minute)
				send.RequestId = "the same" // so that all wait for a single message
				b.send(t, batch(1, slices.Repeat([]*controlv1.SendRequest{send}, maxUnanswered)...))
				b.send(t, batch(maxUnanswered+1, send)) // waits for room
				b.until(t, func() bool { return b.accepted == maxUnanswered })
				synctest.Wait()
				start := time.Now()
				c.end(f, cancel)
				time.Sleep(c.in)
				synctest.Wait()
				if n := f.metric(t, "connhub_grpc_streams"); n != 0 || time.Since(start) > c.in {
					t.Errorf("%d streams after %v", n, time.Since(start))
				}
				if err := b.end(t); status.Code(err) != c.code {
					t.Errorf("have %v, want %v", err, c.code)
				}
			})
		})
	}
}

func TestAStreamHearsThatTheHubLeaves(t *testing.T) {
	for _, c := range []struct {
		name            string
		closes, closing bool          // the backend closes its side: before, or when it hears it
		wait, may       time.Duration // of the send in flight, of the shutdown
		code            codes.Code
		reason          string
	}{
		{
			"with results due", false, false, 2 * time.Second,
			5 * time.Second, codes.Unavailable, "SHUTTING_DOWN",
		},
		{"with its side closed", true, false, 2 * time.Second, 5 * time.Second, codes.OK, ""},
		{"and closes its side", false, true, 2 * time.Second, 5 * time.Second, codes.OK, ""},
		{
			"and must wait too long", false, false, 5 * time.Second,
			2 * time.Second, codes.Unavailable, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				slow := f.connect(t, &wireProtocol{}, "slow")
				slow.stall(true)
				b := f.stream(t.Context(), t)
				b.send(t, batch(1, to(users("slow"), "x"), waiting(
					to(users("slow"), "y"), controlv1.Wait_WAIT_WRITTEN, c.wait,
				)))
				b.until(t, func() bool { return len(b.results) == 1 && b.accepted == 2 })
				if c.closes {
					b.closeSend(t)
				}
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), c.may)
				defer cancel()
				start := time.Now()
				stopped := make(chan error)
				go func() { stopped <- f.server.Shutdown(ctx) }()
				if !c.closes {
					b.until(t, func() bool { return b.goingAway != nil })
					if time.Since(start) != 0 || b.goingAway.GetLastAccepted() != 2 {
						t.Errorf("after %v %v", time.Since(start), b.goingAway)
					}
				}
				if c.closing {
					b.closeSend(t)
				} else if !c.closes {
					_ = b.Send(batch(3, to(users("slow"), "late")))
				}
				err := b.end(t)
				if status.Code(err) != c.code {
					t.Errorf("have %v, want %v", err, c.code)
				} else if c.reason != "" {
					failuretest.HoldError(t, err, c.code, c.reason)
				}
				if err := <-stopped; (err != nil) != (c.may < c.wait) {
					t.Errorf("shutdown: %v", err)
				}
				if took := time.Since(start); took > min(c.wait, c.may)+100*time.Millisecond {
					t.Errorf("took %v", took)
				}
				if want := min(2, 1+int(c.may/c.wait)); len(b.results) != want {
					t.Errorf("%d results, want %d", len(b.results), want)
				}
				slow.stall(false)
				if slow.received() != "x|y|" {
					t.Errorf("received %q", slow.received())
				}
			})
		})
	}
}

func TestWhatAHubHasNotTakenWhenItLeavesIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		slow, ann := f.connect(t, &wireProtocol{}, "slow"), f.connect(t, &wireProtocol{}, "ann")
		slow.stall(true)
		b := f.stream(t.Context(), t)
		// The hub has more in hand than it may take.
		send := waiting(to(users("slow"), "x"), controlv1.Wait_WAIT_WRITTEN, time.Second)
		send.RequestId = "the same" // so that all wait for a single message
		sends := slices.Repeat([]*controlv1.SendRequest{send}, maxUnanswered)
		b.send(t, batch(1, sends[:600]...))
		b.send(t, batch(
			601, append(sends[600:], to(users("ann"), "late"), to(users("ann"), "later"))...,
		))
		synctest.Wait()
		stopped := make(chan error)
		go func() { stopped <- f.server.Shutdown(t.Context()) }()
		failuretest.HoldError(t, b.end(t), codes.Unavailable, "SHUTTING_DOWN")
		if b.goingAway.GetLastAccepted() != maxUnanswered ||
			len(b.results) != maxUnanswered || ann.received() != "" {
			t.Errorf("%v, %d results, received %q", b.goingAway, len(b.results), ann.received())
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// acceptSend accepts a single send.
func (a *answers) acceptSend(sequence int64, at ...sendAnswer) { a.acceptSends(sequence, 1, at...) }

func TestUnansweredSendsAreBoundedInBytesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(port.Account{})
		take := func(bytes int) (took func() bool) {
			done := make(chan bool, 1)
			go func() {
				taken, _ := a.admitSend(t.Context(), bytes)
				done <- taken
			}()
			synctest.Wait()
			return func() bool { return len(done) == 1 }
		}
		answered := func(sequence int64, bytes int) {
			a.acceptSend(sequence, sendAnswer{nil, bytes})
			a.markTold(a.collectReport(nil).answers)
			a.work.Done()
			synctest.Wait()
		}
		if !take(maxUnansweredBytes)() {
			t.Error("all there is room for was not taken")
		}
		second := take(1)
		if second() {
			t.Error("a byte too much was taken")
		}
		answered(1, maxUnansweredBytes)
		if !second() {
			t.Error("with room it was not taken")
		}
		large := take(2 * maxUnansweredBytes)
		if large() {
			t.Error("larger than the bound, and not alone")
		}
		answered(2, 1)
		if !large() {
			t.Error("alone it was not taken")
		}
		answered(3, 2*maxUnansweredBytes)
		a.closeAndWait(func() {})
		if second, _ := a.admitSend(t.Context(), 0); take(0)() && second {
			t.Error("closed, and takes on")
		}
	})
}

// Results that are held back for their batch must not wait for a send of it that begins slowly.
func TestResultsWaitForTheRestOfTheirBatchOnlyAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers(port.Account{})
		a.holdNews(true)
		for sequence := range int64(3) {
			if taken, _ := a.admitSend(t.Context(), 1); !taken {
				t.Fatal("not taken")
			}
			a.work.Done()
			start := time.Now()
			a.acceptSend(sequence+1, sendAnswer{nil, 1})
			select {
			case <-a.news:
				t.Error("told at once")
			default:
			}
			<-a.news
			if held := time.Since(start); held > maxHold {
				t.Errorf("held for %v", held)
			}
		}
		a.acceptSend(4, sendAnswer{nil, 1})
		a.holdNews(false)
		select {
		case <-a.news:
		default:
			t.Error("the end of the batch tells nothing")
		}
		a.closeAndWait(func() {})
	})
}

// FuzzSendStream sends strangers' bytes, as a backend, as the messages of a stream.
func FuzzSendStream(f *testing.F) {
	fix := newFixture(f)
	fix.connect(f, &wireProtocol{}, "ann", "red")
	for _, seed := range []*controlv1.SendStreamRequest{
		batch(1, to(users("ann"), "x"), to(nil, "y")),
		batch(form.MaxSequence, to(everyone(), "x")),
		{},
	} {
		b, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, b)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if code := status.Code(fix.raw(ctx, t, first, second)); code == codes.Internal {
			t.Errorf("have %v", code)
		}
		if log := fix.log.String(); log != "" {
			t.Errorf("logged %s", log)
		}
	})
}
