package mesh

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// stranger calls a hub as a peer does, and sends any messages.
type stranger struct {
	peerv1.PeerServiceClient
	b  *bubble
	id string
	to *member
}

func newStranger(b *bubble, to *member, id string) *stranger {
	conn, err := grpc.NewClient("passthrough:///"+to.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), // else it grows with the rate of the network
		grpc.WithContextDialer(b.dialFrom(id+":9090")))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	return &stranger{peerv1.NewPeerServiceClient(conn), b, id, to}
}

func (s *stranger) hello(epoch uint64) *peerv1.Hello {
	h := helloOf(s.id, string(s.to.id), epoch)
	h.Self.Cluster, h.Expected.Cluster = "cluster", "cluster"
	return h
}

func (s *stranger) laneHello(epoch uint64, lane uint32) *peerv1.LaneHello {
	return &peerv1.LaneHello{Hub: s.id, Epoch: epoch, Lane: lane}
}

// saying wraps a message for a Control stream.
func saying(m proto.Message) *peerv1.ControlRequest {
	switch m := m.(type) {
	case *peerv1.Hello:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_Hello{Hello: m}}
	case *peerv1.Probe:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_Probe{Probe: m}}
	case *peerv1.InterestConfirmation:
		return &peerv1.ControlRequest{
			Body: &peerv1.ControlRequest_InterestConfirmation{InterestConfirmation: m},
		}
	case *peerv1.GoingAway:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_GoingAway{GoingAway: m}}
	case *peerv1.ControlRequest:
		return m
	default:
		panic(fmt.Sprintf("%T", m))
	}
}

// calling wraps a message for a lane.
func calling(m proto.Message) *peerv1.DataRequest {
	switch m := m.(type) {
	case *peerv1.LaneHello:
		return &peerv1.DataRequest{Body: &peerv1.DataRequest_Hello{Hello: m}}
	case *peerv1.Forward:
		return &peerv1.DataRequest{Body: &peerv1.DataRequest_Forward{Forward: m}}
	case *peerv1.DataRequest:
		return m
	default:
		panic(fmt.Sprintf("%T", m))
	}
}

// drain reads a stream to its end.
func drain[T any](recv func() (T, error)) error {
	for {
		if _, err := recv(); err != nil {
			return err
		}
	}
}

// open opens a Control stream, sends the given messages and leaves it open.
func (s *stranger) open(said ...proto.Message) peerv1.PeerService_ControlClient {
	stream, err := s.Control(s.b.t.Context())
	if err != nil {
		s.b.t.Fatal(err)
	}
	for _, m := range said {
		if err := stream.Send(saying(m)); err != nil && !errors.Is(err, io.EOF) {
			s.b.t.Fatal(err)
		}
	}
	return stream
}

// control opens a Control stream, sends the given messages and returns how the stream ends.
func (s *stranger) control(said ...proto.Message) error { return drain(s.open(said...).Recv) }

// openLane opens a lane, as open does for a Control stream.
func (s *stranger) openLane(said ...proto.Message) peerv1.PeerService_DataClient {
	stream, err := s.Data(s.b.t.Context())
	if err != nil {
		s.b.t.Fatal(err)
	}
	for _, m := range said {
		if err := stream.Send(calling(m)); err != nil && !errors.Is(err, io.EOF) {
			s.b.t.Fatal(err)
		}
	}
	return stream
}

func (s *stranger) lane(said ...proto.Message) error { return drain(s.openLane(said...).Recv) }

// refused checks how a stream ended; UNSPECIFIED: without a reason.
func (s *stranger) refused(t *testing.T, err error, code codes.Code, reason peerv1.RefusalReason) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != code || reasonIn(st) != reason {
		t.Errorf("ended with %v %v, want %v %v", st, reasonIn(st), code, reason)
	}
	if code == codes.Unavailable && st.Message() != "the link has ended" {
		t.Errorf("it is told %q", st.Message())
	}
}

const (
	none      = peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED
	violation = peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION
)

// beside runs a test of a stranger beside a link that must not suffer.
func beside(t *testing.T, f func(t *testing.T, x *member, s *stranger)) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		there, back := x.epoch(y), y.epoch(x)
		s := newStranger(b, x, "s")
		f(t, x, s)
		synctest.Wait()
		if x.epoch(y) != there || y.epoch(x) != back || !x.sees(y).Lease || !y.sees(x).Lease {
			t.Errorf("the link beside: epochs %d → %d, %d → %d, %+v, %+v", there, x.epoch(y), back,
				y.epoch(x), x.sees(y), y.sees(x))
		}
		x.Mesh.mu.RLock()
		defer x.Mesh.mu.RUnlock()
		for key := range x.in {
			if string(key.hub) == s.id {
				t.Errorf("link %v is not over", key)
			}
		}
	})
}

// unknown returns a message with a field that this version does not know.
func unknown(m proto.Message) proto.Message {
	m.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 'x'})
	return m
}

func TestAHelloThatBreaksARuleIsRefused(t *testing.T) {
	const (
		wrongCluster = peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER
		wrongHub     = peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB
		noVersion    = peerv1.RefusalReason_REFUSAL_REASON_NO_COMMON_VERSION
		invalid      = codes.InvalidArgument
		precondition = codes.FailedPrecondition
	)
	long := strings.Repeat("x", 1025)
	for name, tc := range map[string]struct {
		change func(h *peerv1.Hello)
		code   codes.Code
		reason peerv1.RefusalReason
	}{
		"without self":     {func(h *peerv1.Hello) { h.Self = nil }, invalid, violation},
		"without expected": {func(h *peerv1.Hello) { h.Expected = nil }, invalid, violation},
		"without id":       {func(h *peerv1.Hello) { h.Self.Hub = "" }, invalid, violation},
		"with a long id": {
			func(h *peerv1.Hello) { h.Self.Hub = long[:65] }, invalid, violation,
		},
		"without cluster":  {func(h *peerv1.Hello) { h.Self.Cluster = "" }, invalid, violation},
		"without address":  {func(h *peerv1.Hello) { h.Address = "" }, invalid, violation},
		"with a long name": {func(h *peerv1.Hello) { h.Name = long }, invalid, violation},
		"of epoch 0":       {func(h *peerv1.Hello) { h.Epoch = 0 }, invalid, violation},
		"without versions": {
			func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = 0, 0 }, invalid, violation,
		},
		"without lanes": {func(h *peerv1.Hello) { h.Lanes = 0 }, invalid, violation},
		"with 65 lanes": {func(h *peerv1.Hello) { h.Lanes = 65 }, invalid, violation},
		"of another cluster": {
			func(h *peerv1.Hello) { h.Self.Cluster = "other" }, precondition, wrongCluster,
		},
		"for another": {
			func(h *peerv1.Hello) { h.Expected.Cluster = "other" }, precondition, wrongCluster,
		},
		"for another hub": {
			func(h *peerv1.Hello) { h.Expected.Hub = "c" }, precondition, wrongHub,
		},
		"of the hub's id": {func(h *peerv1.Hello) { h.Self.Hub = "a" }, precondition, wrongHub},
		"too new": {
			func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = 8, 9 }, precondition, noVersion,
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, _ *member, s *stranger) {
				h := s.hello(1)
				tc.change(h)
				s.refused(t, s.control(h), tc.code, tc.reason)
			})
		})
	}
}

// falseKnownFor are impossible values of Hello.known_for.
var falseKnownFor = map[string]*durationpb.Duration{
	"a nanosecond to come": durationpb.New(-time.Nanosecond),
	"an hour to come":      durationpb.New(-time.Hour),
	"10,000 years to come": {Seconds: -315_576_000_000},
	"no duration":          {Seconds: math.MinInt64, Nanos: -1},
	"over 100 years":       durationpb.New(100*365*24*time.Hour + 1),
}

// TestAHelloWithAFalseTimeForgetsNobody: such a hello would make the hub close all its clients and
// start anew.
func TestAHelloWithAFalseTimeForgetsNobody(t *testing.T) {
	for name, known := range falseKnownFor {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, x *member, s *stranger) {
				time.Sleep(2 * core.LostGrace)
				for epoch := range uint64(2) {
					h := s.hello(epoch + 1)
					h.KnownFor = known
					link := s.open(h)
					synctest.Wait() // a hello is judged when its link is used
					lane := s.openLane(s.laneHello(epoch+1, 0))
					s.refused(t, drain(link.Recv), codes.InvalidArgument, violation)
					s.refused(t, drain(lane.Recv), codes.FailedPrecondition,
						peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH)
				}
				if x.Forgotten() {
					t.Error("the hub takes itself for forgotten")
				}
				if n := strings.Count(x.log.String(), "hello refused"); n != 1 {
					t.Errorf("%d lines in the log say that a hello was refused, want 1:\n%s", n,
						x.log.String())
				}
			})
		})
	}
}

func TestAControlStreamThatBreaksARuleIsEnded(t *testing.T) {
	for name, said := range map[string]func(s *stranger) []proto.Message{
		"probe first": func(*stranger) []proto.Message {
			return []proto.Message{&peerv1.Probe{Number: 1}}
		},
		"nothing first": func(*stranger) []proto.Message {
			return []proto.Message{&peerv1.ControlRequest{}}
		},
		"unknown first": func(*stranger) []proto.Message {
			return []proto.Message{unknown(&peerv1.ControlRequest{})}
		},
		"hello twice": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), s.hello(1)}
		},
		"higher hello": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), s.hello(2)}
		},
		"nothing": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), &peerv1.ControlRequest{}}
		},
		"unknown": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), unknown(&peerv1.ControlRequest{})}
		},
		"probe 0": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), &peerv1.Probe{}}
		},
		"probe gap": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), &peerv1.Probe{Number: 1}, &peerv1.Probe{Number: 3}}
		},
		"probe twice": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), &peerv1.Probe{Number: 1}, &peerv1.Probe{Number: 1}}
		},
		"confirms others": func(s *stranger) []proto.Message {
			return []proto.Message{s.hello(1), &peerv1.InterestConfirmation{Sequence: 99}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, _ *member, s *stranger) {
				s.refused(t, s.control(said(s)...), codes.InvalidArgument, violation)
			})
		})
	}
}

func TestAStreamThatSaysNothingEndsAfter10Seconds(t *testing.T) {
	beside(t, func(t *testing.T, _ *member, s *stranger) {
		began := time.Now()
		s.refused(t, s.control(), codes.Unavailable, none)
		s.refused(t, s.lane(), codes.Unavailable, none)
		s.refused(t, s.control(s.hello(1)), codes.Unavailable, none)
		if took := time.Since(began); took != 3*core.LinkTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestOnlyAHigherEpochIsAccepted(t *testing.T) {
	stale := peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH
	beside(t, func(t *testing.T, x *member, s *stranger) {
		first := s.open(s.hello(5))
		if m, err := first.Recv(); err != nil || m.GetHello().GetEpoch() != 5 {
			t.Fatal(m, err)
		}
		s.refused(t, s.control(s.hello(5)), codes.FailedPrecondition, stale)
		s.refused(t, s.control(s.hello(4)), codes.FailedPrecondition, stale)
		if err := first.Send(saying(&peerv1.Probe{Number: 1})); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if x.sees(&member{id: "s"}).State == 0 {
			t.Error("the link suffers from those that were refused")
		}
		second := s.open(s.hello(6))
		if m, err := second.Recv(); err != nil || m.GetHello().GetEpoch() != 6 {
			t.Fatal(m, err)
		}
		s.refused(t, drain(first.Recv), codes.Unavailable, none)
		s.refused(t, s.lane(s.laneHello(5, 0)), codes.FailedPrecondition, stale)
		if err := second.CloseSend(); err != nil {
			t.Error(err)
		}
		s.refused(t, drain(second.Recv), codes.Unavailable, none)
		s.refused(t, s.control(s.hello(6)), codes.FailedPrecondition, stale)
	})
}

// TestAHelloWaitsForTheLinkItReplaces: the lanes of that link may be executing. A waiting hello
// makes way for a hello of a higher epoch.
func TestAHelloWaitsForTheLinkItReplaces(t *testing.T) {
	beside(t, func(t *testing.T, x *member, s *stranger) {
		block := make(chan struct{})
		x.mu.Lock()
		x.stubborn = block
		x.mu.Unlock()
		first := s.open(s.hello(1))
		synctest.Wait()
		lane := s.openLane(s.laneHello(1, 0), s.forward(1))
		synctest.Wait()
		second := s.open(s.hello(2))
		synctest.Wait()
		third := s.open(s.hello(3))
		s.refused(t, drain(second.Recv), codes.FailedPrecondition,
			peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH)
		s.refused(t, s.lane(s.laneHello(3, 0)), codes.FailedPrecondition,
			peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH)
		if x.count() != 0 {
			t.Error("it was executed")
		}
		close(block)
		if m, err := third.Recv(); err != nil || m.GetHello().GetEpoch() != 3 {
			t.Fatal(m, err)
		}
		s.refused(t, drain(first.Recv), codes.Unavailable, none)
		if err := drain(lane.Recv); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
		_ = third.CloseSend()
		_ = drain(third.Recv)
	})
}

func (s *stranger) forward(sequence uint64) *peerv1.Forward {
	return &peerv1.Forward{
		Sequence: sequence, Caller: "me", Call: &peerv1.Forward_Send{Send: &peerv1.ForwardSend{}},
	}
}

func TestALaneThatBreaksARuleIsEnded(t *testing.T) {
	change := func(f func(*peerv1.Forward)) func(s *stranger) []proto.Message {
		return func(s *stranger) []proto.Message {
			forward := s.forward(1)
			f(forward)
			return []proto.Message{s.laneHello(1, 0), forward}
		}
	}
	send := func(f *peerv1.Forward) *peerv1.ForwardSend { return f.GetSend() }
	for name, tc := range map[string]struct {
		said func(s *stranger) []proto.Message
		link bool // the link ends too
	}{
		"forward first": {
			func(s *stranger) []proto.Message { return []proto.Message{s.forward(1)} }, false,
		},
		"no lane": {
			func(s *stranger) []proto.Message { return []proto.Message{s.laneHello(1, 64)} }, false,
		},
		"not announced": {
			func(s *stranger) []proto.Message { return []proto.Message{s.laneHello(1, 1)} }, false,
		},
		"epoch 0": {
			func(s *stranger) []proto.Message { return []proto.Message{s.laneHello(0, 0)} }, false,
		},
		"hello twice": {func(s *stranger) []proto.Message {
			return []proto.Message{s.laneHello(1, 0), s.laneHello(1, 0)}
		}, true},
		"nothing": {func(s *stranger) []proto.Message {
			return []proto.Message{s.laneHello(1, 0), &peerv1.DataRequest{}}
		}, true},
		"unknown": {func(s *stranger) []proto.Message {
			return []proto.Message{s.laneHello(1, 0), unknown(&peerv1.DataRequest{})}
		}, true},
		"gap":        {change(func(f *peerv1.Forward) { f.Sequence = 2 }), true},
		"sequence 0": {change(func(f *peerv1.Forward) { f.Sequence = 0 }), true},
		"repetition": {func(s *stranger) []proto.Message {
			return []proto.Message{s.laneHello(1, 0), s.forward(1), s.forward(1)}
		}, true},
		"no call": {change(func(f *peerv1.Forward) { f.Call = nil }), true},
		"negative age": {
			change(func(f *peerv1.Forward) { f.Age = durationpb.New(-time.Nanosecond) }), true,
		},
		"long caller": {
			change(func(f *peerv1.Forward) { f.Caller = strings.Repeat("x", 1025) }), true,
		},
		"long hash": {
			change(func(f *peerv1.Forward) { send(f).RequestHash = make([]byte, 33) }), true,
		},
		"long trace": {
			change(func(f *peerv1.Forward) { send(f).TraceParent = strings.Repeat("x", 56) }), true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, _ *member, s *stranger) {
				control := s.open(s.hello(1))
				synctest.Wait()
				s.refused(t, s.lane(tc.said(s)...), codes.InvalidArgument, violation)
				if !tc.link {
					_ = control.CloseSend()
				}
				end := drain(control.Recv)
				if tc.link {
					s.refused(t, end, codes.InvalidArgument, violation)
				}
			})
		})
	}
}

// A later version may have calls that this version does not know. They have results, and the link
// goes on.
func TestACallOfALaterVersionIsAnswered(t *testing.T) {
	beside(t, func(t *testing.T, x *member, s *stranger) {
		control := s.open(s.hello(1))
		synctest.Wait()
		later := s.forward(1)
		later.Call = nil
		lane := s.openLane(s.laneHello(1, 0), unknown(later), s.forward(2))
		for results := 0; results < 2; {
			r, err := lane.Recv()
			if err != nil {
				t.Fatal(err)
			}
			results += len(r.GetBatch().GetResults())
			if r.GetResult() != nil {
				results++
			}
		}
		if n := x.metric(t, "connhub_mesh_forwards_received_total", kindOther); n != 1 {
			t.Errorf("%v of them are counted", n)
		}
		_ = control.CloseSend()
		_ = drain(control.Recv)
	})
}

func TestALaneOpensOnceAndWithItsLink(t *testing.T) {
	stale := peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH
	beside(t, func(t *testing.T, _ *member, s *stranger) {
		s.refused(t, s.lane(s.laneHello(1, 0)), codes.FailedPrecondition, stale)
		control := s.open(s.hello(2))
		synctest.Wait()
		s.refused(t, s.lane(s.laneHello(1, 0)), codes.FailedPrecondition, stale)
		s.refused(t, s.lane(s.laneHello(3, 0)), codes.FailedPrecondition, stale)
		lane := s.openLane(s.laneHello(2, 0), s.forward(1))
		if _, err := lane.Recv(); err != nil {
			t.Fatal(err)
		}
		s.refused(t, s.lane(s.laneHello(2, 0)), codes.InvalidArgument, violation)
		if m, err := lane.Recv(); err != nil || m.GetResult().GetSequence() != 1 {
			t.Errorf("the first one suffers: %v, %v", m, err)
		}
		_ = control.CloseSend()
		s.refused(t, drain(control.Recv), codes.Unavailable, none)
		s.refused(t, drain(lane.Recv), codes.Unavailable, none)
	})
}

func TestAPeerThatTakesNoAnswersLosesItsLink(t *testing.T) {
	t.Run("16,385 forwards without a result", func(t *testing.T) {
		beside(t, func(t *testing.T, x *member, s *stranger) {
			x.holdAt(newGate())
			control := s.open(s.hello(1))
			synctest.Wait()
			lane := s.openLane(s.laneHello(1, 0))
			for n := range uint64(laneResults) {
				if err := lane.Send(calling(s.forward(n + 1))); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if n := x.count(); n != laneResults {
				t.Fatalf("%d were executed", n)
			}
			if err := lane.Send(calling(s.forward(laneResults + 1))); err != nil {
				t.Fatal(err)
			}
			s.refused(t, drain(lane.Recv), codes.InvalidArgument, violation)
			s.refused(t, drain(control.Recv), codes.InvalidArgument, violation)
			if n := x.count(); n != laneResults {
				t.Errorf("%d were executed", n)
			}
		})
	})
	t.Run("results are not read", func(t *testing.T) {
		beside(t, func(t *testing.T, x *member, s *stranger) {
			control := s.open(s.hello(1))
			synctest.Wait()
			lane := s.openLane(s.laneHello(1, 0))
			flood(func(n uint64) error { return lane.Send(calling(s.forward(n))) })
			// gRPC holds some, in 64 KiB at each end
			if n := x.count(); n > laneResults+5*laneCalls {
				t.Errorf("%d were executed", n)
			}
			s.refused(t, drain(lane.Recv), codes.InvalidArgument, violation)
			s.refused(t, drain(control.Recv), codes.InvalidArgument, violation)
		})
	})
	t.Run("answers to probes are not read", func(t *testing.T) {
		beside(t, func(t *testing.T, _ *member, s *stranger) {
			control := s.open(s.hello(1))
			flood(func(n uint64) error { return control.Send(saying(&peerv1.Probe{Number: n})) })
			s.refused(t, drain(control.Recv), codes.Unavailable, none)
		})
	})
}

// flood sends until a send fails or blocks. (A client sees the status only if it reads the messages
// before it.)
func flood(send func(n uint64) error) {
	go func() {
		n := uint64(1)
		for n <= 50_000 && send(n) == nil {
			n++
		}
	}()
	synctest.Wait()
}
