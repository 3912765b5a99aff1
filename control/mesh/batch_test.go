package mesh

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// listener is a rogue that records the messages on its lanes, and answers each forward with a
// message of its own.
type listener struct {
	rogue
	mu    sync.Mutex
	heard []*peerv1.DataRequest
}

func newListener(version uint32) *listener {
	l := &listener{}
	l.control = func(hello *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
		answer := answerTo(hello)
		answer.ProtocolMax = version
		if err := stream.Send(answering(answer)); err != nil {
			return err
		}
		return drain(stream.Recv)
	}
	l.data = func(stream peerv1.PeerService_DataServer) error {
		for {
			r, err := stream.Recv()
			if err != nil {
				return err
			}
			l.mu.Lock()
			l.heard = append(l.heard, r)
			l.mu.Unlock()
			for _, f := range forwardsIn(r) {
				result := &peerv1.ForwardResult{
					Sequence: f.GetSequence(), Result: &peerv1.ForwardResult_Send{
						Send: &peerv1.SendResult{},
					},
				}
				err := stream.Send(&peerv1.DataResponse{
					Body: &peerv1.DataResponse_Result{Result: result},
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return l
}

func forwardsIn(r *peerv1.DataRequest) []*peerv1.Forward {
	if f := r.GetForward(); f != nil {
		return []*peerv1.Forward{f}
	}
	return r.GetBatch().GetForwards()
}

// TestWhatIsInLineGoesOutInBatches: the calls in line go out in batches, within the bounds and in
// order. A hub of the first version gets each call in a message of its own.
func TestWhatIsInLineGoesOutInBatches(t *testing.T) {
	for _, tc := range []struct {
		name        string
		version     uint32
		size, count int
		most        int // in a batch
	}{
		{"small", core.BatchVersion, 10, 600, maxBatch},
		{"large", core.BatchVersion, 10_000, 100, 1 + maxBatchBytes/10_100},
		{"larger than a batch", core.BatchVersion, maxBatchBytes, 20, 1},
		{"of the first version", core.BatchVersion - 1, 10, 600, 1},
		{"of a later version", core.BatchVersion + 7, 10, 600, maxBatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bubble) {
				x, r := b.start("a"), newListener(tc.version)
				defer b.serve("rogue:1", r).Stop()
				b.list("r", "rogue:1")
				time.Sleep(50 * time.Millisecond)
				send := &peerv1.Forward{
					Call: &peerv1.Forward_Send{
						Send: &peerv1.ForwardSend{Request: make([]byte, tc.size)},
					},
				}
				call := &Call{
					Caller: "me", Began: time.Now(), Forward: send, size: proto.Size(send),
				}
				x.Mesh.mu.Lock()
				l := newLane(x.out["r"], 0)
				x.Mesh.mu.Unlock()
				for range tc.count {
					g := newGathering([]Destination{{Hub: "r"}}, x.metrics)
					if !l.tryEnqueue(&forwarding{call: call, kind: "send", into: &g.answers[0]}) {
						t.Fatal("there is no room")
					}
				}
				next := uint64(1)
				for r := l.nextRequest(); r != nil; r = l.nextRequest() {
					forwards := forwardsIn(r)
					if n := len(forwards); n != min(tc.most, tc.count+1-int(next)) {
						t.Errorf("%d of %d in a batch, want %d", n, tc.count, tc.most)
					}
					bytes := proto.Size(dataRequest(forwards[1:]))
					if len(forwards) > 1 && bytes > maxBatchBytes {
						t.Errorf("a batch of %d bytes behind its first", bytes)
					}
					for _, f := range forwards {
						if f.GetSequence() != next {
							t.Fatalf("forward %d, want %d", f.GetSequence(), next)
						}
						next++
					}
				}
				if int(next) != tc.count+1 {
					t.Errorf("%d of %d went out", next-1, tc.count)
				}
			})
		})
	}
}

// TestHubsOfTheFirstVersionSpeakWithoutBatches, in both directions, however many messages wait.
func TestHubsOfTheFirstVersionSpeakWithoutBatches(t *testing.T) {
	const calls = 500
	t.Run("it is called", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bubble) {
			x, r := b.start("a"), newListener(core.BatchVersion-1)
			defer b.serve("rogue:1", r).Stop()
			b.list("r", "rogue:1")
			time.Sleep(50 * time.Millisecond)
			var gatherings []*Gathering
			for i := range calls {
				gatherings = append(gatherings,
					x.forward(t.Context(), "me", strconv.Itoa(i), x.Route(Query{}).To))
			}
			for i, g := range gatherings {
				if o := g.Wait(t.Context()); o[0].Result == nil {
					t.Fatalf("the outcome of call %d is unknown", i)
				}
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			for i, heard := range r.heard {
				got := string(heard.GetForward().GetSend().GetRequest())
				if got != strconv.Itoa(i) {
					t.Fatalf("message %d is %v", i, heard)
				}
			}
			if len(r.heard) != calls {
				t.Errorf("%d of %d calls came", len(r.heard), calls)
			}
		})
	})
	t.Run("it calls", func(t *testing.T) {
		beside(t, func(t *testing.T, x *member, s *stranger) {
			hello := s.hello(1)
			hello.ProtocolMax = core.BatchVersion - 1
			control := s.open(hello)
			synctest.Wait()
			lane := s.openLane(s.laneHello(1, 0))
			for n := range uint64(calls) {
				if n == calls/2 {
					x.mu.Lock()
					x.hold = newGate() // y tells up to where calls have begun
					x.hold.open()
					x.mu.Unlock()
				}
				if err := lane.Send(calling(s.forward(n + 1))); err != nil {
					t.Fatal(err)
				}
			}
			results, begun := 0, uint64(0)
			for results < calls || begun < calls {
				r, err := lane.Recv()
				switch {
				case err != nil:
					t.Fatal(err)
				case r.GetBatch() != nil:
					t.Fatalf("it is told %v", r)
				case r.GetResult() != nil:
					results++
				case r.GetBegun() > 0:
					begun = r.GetBegun()
				}
			}
			_ = control.CloseSend()
			_ = drain(control.Recv)
		})
	})
}

// A hub of the first version may not know these calls, and would end the link.
func TestPermissionsDoNotGoToHubsOfTheFirstVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, r := b.start("a"), newListener(core.BatchVersion-1)
		defer b.serve("rogue:1", r).Stop()
		b.list("r", "rogue:1")
		time.Sleep(50 * time.Millisecond)
		for _, f := range []*peerv1.Forward{
			{Call: &peerv1.Forward_Grant{}}, {Call: &peerv1.Forward_Revoke{}},
		} {
			call := &Call{Caller: "me", Began: time.Now(), Since: core.BatchVersion, Forward: f}
			g := x.Forward(call, x.Route(Query{}).To)
			g.Insist(t.Context())
			if o := g.Wait(t.Context()); len(o) != 1 || o[0].Result != nil {
				t.Errorf("%v: outcomes %v", f, o)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.heard) != 0 {
			t.Errorf("it heard %v", r.heard)
		}
	})
}

func TestABatchIsExecutedInOrderAndAnsweredTogether(t *testing.T) {
	beside(t, func(t *testing.T, x *member, s *stranger) {
		control := s.open(s.hello(1))
		synctest.Wait()
		lane := s.openLane(s.laneHello(1, 0), s.batch(1, maxBatch))
		if m, err := lane.Recv(); err != nil || m.GetHello() == nil {
			t.Fatal(m, err)
		}
		for results := 0; results < maxBatch; {
			r, err := lane.Recv()
			if err != nil {
				t.Fatal(err)
			}
			got := r.GetBatch().GetResults()
			if len(got) < maxBurst {
				t.Fatalf("%d results came together, want those of a burst at least", len(got))
			}
			results += len(got)
		}
		for i, f := range x.executed {
			if f.GetSequence() != uint64(i)+1 {
				t.Fatalf("forward %d was executed at %d", f.GetSequence(), i)
			}
		}
		_ = control.CloseSend()
		_ = drain(control.Recv)
	})
}

// batch returns a message with count forwards.
func (s *stranger) batch(from uint64, count int) *peerv1.DataRequest {
	batch := &peerv1.ForwardBatch{}
	for i := range count {
		batch.Forwards = append(batch.Forwards, s.forward(from+uint64(i)))
	}
	return &peerv1.DataRequest{Body: &peerv1.DataRequest_Batch{Batch: batch}}
}

// The executed calls are written before the handler's next step, such as to end the stream.
func TestSendsAreWrittenTogetherButBeforeOtherCalls(t *testing.T) {
	beside(t, func(t *testing.T, x *member, s *stranger) {
		x.order = []string{}
		control := s.open(s.hello(1))
		synctest.Wait()
		batch := s.batch(1, maxBurst+6)
		batch.GetBatch().Forwards[2].Call = &peerv1.Forward_Close{Close: &peerv1.ForwardClose{}}
		s.openLane(s.laneHello(1, 0), batch)
		synctest.Wait()
		var want []string
		together := func(first, last int) {
			for _, what := range []string{"execute ", "answer "} {
				for n := first; n <= last; n++ {
					want = append(want, what+strconv.Itoa(n))
				}
			}
		}
		together(1, 2)
		together(3, 2+maxBurst)
		together(3+maxBurst, 6+maxBurst)
		if diff := cmp.Diff(want, x.order); diff != "" {
			t.Error(diff)
		}
		_ = control.CloseSend()
		_ = drain(control.Recv)
	})
}

func TestABatchThatBreaksARuleEndsTheLink(t *testing.T) {
	for name, tc := range map[string]struct {
		batch    func(s *stranger) *peerv1.DataRequest
		executed int
	}{
		"empty": {func(s *stranger) *peerv1.DataRequest { return s.batch(1, 0) }, 0},
		"too long": {
			func(s *stranger) *peerv1.DataRequest { return s.batch(1, maxBatch+1) }, 0,
		},
		"begins late": {func(s *stranger) *peerv1.DataRequest { return s.batch(2, 3) }, 0},
		"with a gap": {
			func(s *stranger) *peerv1.DataRequest { return without(s.batch(1, 9), 4) }, 4,
		},
		"with an empty": {
			func(s *stranger) *peerv1.DataRequest { return emptied(s.batch(1, 9), 3) }, 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, x *member, s *stranger) {
				control := s.open(s.hello(1))
				synctest.Wait()
				s.refused(t, s.lane(s.laneHello(1, 0), tc.batch(s)), codes.InvalidArgument,
					violation)
				s.refused(t, drain(control.Recv), codes.InvalidArgument, violation)
				if n := x.count(); n != tc.executed {
					t.Errorf("%d were executed, want those before: %d", n, tc.executed)
				}
			})
		})
	}
}

func without(r *peerv1.DataRequest, i int) *peerv1.DataRequest {
	b := r.GetBatch()
	b.Forwards = slices.Delete(b.Forwards, i, i+1)
	return r
}

func emptied(r *peerv1.DataRequest, i int) *peerv1.DataRequest {
	r.GetBatch().Forwards[i].Call = nil
	return r
}
