package mesh

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// rogue is a dialled hub that answers as a test likes.
type rogue struct {
	peerv1.UnimplementedPeerServiceServer
	control func(hello *peerv1.Hello, stream peerv1.PeerService_ControlServer) error
	data    func(stream peerv1.PeerService_DataServer) error // runs after the hellos

	read error // its answer to a Read

	mu     sync.Mutex
	dialed []time.Time // by hub a
	epochs []uint64
}

func (r *rogue) Control(stream peerv1.PeerService_ControlServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.GetHello().GetSelf().GetHub() == "a" {
		r.mu.Lock()
		r.dialed = append(r.dialed, time.Now())
		r.epochs = append(r.epochs, first.GetHello().GetEpoch())
		r.mu.Unlock()
	}
	return r.control(first.GetHello(), stream)
}

func (r *rogue) Data(stream peerv1.PeerService_DataServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&peerv1.DataResponse{
		Body: &peerv1.DataResponse_Hello{Hello: &peerv1.LaneHelloAnswer{}},
	})
	if err != nil {
		return err
	}
	if r.data == nil {
		return drain(stream.Recv)
	}
	return r.data(stream)
}

// Move opens the stream, and says nothing more.
func (r *rogue) Move(stream peerv1.PeerService_MoveServer) error {
	if _, err := stream.Recv(); err != nil {
		return err
	}
	err := stream.Send(&peerv1.MoveResponse{
		Body: &peerv1.MoveResponse_Hello{Hello: &peerv1.LaneHelloAnswer{}},
	})
	if err != nil {
		return err
	}
	return drain(stream.Recv)
}

func (r *rogue) Read(context.Context, *peerv1.ReadRequest) (*peerv1.ReadResponse, error) {
	return nil, r.read
}

// dials returns when hub a dialled it, from a time on, and checks that epochs rise.
func (r *rogue) dials(t *testing.T, since time.Time) (times []time.Duration) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, at := range r.dialed {
		times = append(times, at.Sub(since))
		if i > 0 && r.epochs[i] <= r.epochs[i-1] {
			t.Errorf("epoch %d after %d", r.epochs[i], r.epochs[i-1])
		}
	}
	return times
}

// answerTo returns the right answer to a hello.
func answerTo(h *peerv1.Hello) *peerv1.Hello {
	a := helloOf(h.GetExpected().GetHub(), h.GetSelf().GetHub(), h.GetEpoch())
	a.Self.Cluster, a.Expected.Cluster, a.Lanes = "cluster", "cluster", 0
	return a
}

// answering wraps a message for a Control stream that was dialled.
func answering(m proto.Message) *peerv1.ControlResponse {
	switch m := m.(type) {
	case *peerv1.Hello:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Hello{Hello: m}}
	case *peerv1.ProbeAnswer:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: m}}
	case *peerv1.Interest:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Interest{Interest: m}}
	default:
		return m.(*peerv1.ControlResponse)
	}
}

// says makes the rogue answer the hello, send the messages, and go on to answer probes.
func says(said ...proto.Message) func(*peerv1.Hello, peerv1.PeerService_ControlServer) error {
	return func(hello *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
		for _, m := range append([]proto.Message{answerTo(hello)}, said...) {
			if err := stream.Send(answering(m)); err != nil {
				return err
			}
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return err
			}
			if p := m.GetProbe(); p != nil {
				err := stream.Send(answering(&peerv1.ProbeAnswer{Number: p.GetNumber()}))
				if err != nil {
					return err
				}
			}
		}
	}
}

// besideRogue lists a rogue at a hub with a second peer, which must not suffer.
func besideRogue(t *testing.T, r *rogue, f func(t *testing.T, b *bubble, x *member)) {
	t.Helper()
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		epoch := x.epoch(y)
		server := b.serve("rogue:1", r)
		defer server.Stop()
		b.list("r", "rogue:1")
		f(t, b, x)
		if x.epoch(y) != epoch || !x.sees(y).Lease || !y.sees(x).Lease {
			t.Errorf("the link beside: epochs %d → %d, %+v, %+v", epoch, x.epoch(y), x.sees(y),
				y.sees(x))
		}
	})
}

func TestAnAnswerThatBreaksARuleEndsTheLink(t *testing.T) {
	for name, said := range map[string]proto.Message{
		"nothing":      &peerv1.ControlResponse{},
		"unknown":      unknown(&peerv1.ControlResponse{}),
		"second hello": helloOf("r", "a", 1),
		"interest gap": &peerv1.Interest{Sequence: 2, SnapshotStart: true},
		"no snapshot":  &peerv1.Interest{Sequence: 1},
		"too much interest": &peerv1.Interest{
			Sequence: 1, SnapshotStart: true, Added: make([]uint64, core.MaxHashes+1),
		},
		"answer to probe 0":     &peerv1.ProbeAnswer{},
		"answer to probe 1,000": &peerv1.ProbeAnswer{Number: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rogue{control: says(said)}
			besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
				time.Sleep(50 * time.Millisecond)
				if n := x.metric(t, "connhub_mesh_links_ended_total", "violation"); n != 1 {
					t.Errorf("%v links ended because of a violation", n)
				}
				if s := x.sees(&member{id: "r"}).State; s != PeerListed {
					t.Errorf("the rogue is %v", s)
				}
				if n := x.probesLongerThan(t, 10*time.Second); n != 0 {
					t.Errorf("%d answers to no probe were measured", n)
				}
			})
		})
	}
}

// probesLongerThan returns how many probes took longer.
func (h *member) probesLongerThan(t *testing.T, d time.Duration) (n uint64) {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "connhub_mesh_probe_seconds" {
			m := f.GetMetric()[0].GetHistogram()
			n = m.GetSampleCount()
			for _, b := range m.GetBucket() {
				if b.GetUpperBound() == d.Seconds() {
					n -= b.GetCumulativeCount()
				}
			}
		}
	}
	return n
}

func TestAnAnswerOfSomebodyElseIsNoLink(t *testing.T) {
	for name, change := range map[string]func(h *peerv1.Hello){
		"another hub":        func(h *peerv1.Hello) { h.Self.Hub = "other" },
		"another cluster":    func(h *peerv1.Hello) { h.Self.Cluster = "other" },
		"to another hub":     func(h *peerv1.Hello) { h.Expected.Hub = "other" },
		"another epoch":      func(h *peerv1.Hello) { h.Epoch += 7 },
		"no common version":  func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = 8, 9 },
		"an invalid address": func(h *peerv1.Hello) { h.Address = "" },
		"from a false time": func(h *peerv1.Hello) {
			h.KnownFor = durationpb.New(-time.Nanosecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rogue{}
			r.control = func(hello *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
				a := answerTo(hello)
				change(a)
				if err := stream.Send(answering(a)); err != nil {
					return err
				}
				return drain(stream.Recv)
			}
			besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
				time.Sleep(50 * time.Millisecond)
				if s := x.sees(&member{id: "r"}); s.State != PeerListed {
					t.Errorf("it is %+v", s)
				}
				if n := x.metric(t, "connhub_mesh_dials_failed_total", "none"); n != 1 {
					t.Errorf("%v dials failed", n)
				}
				if r := x.Route(Query{}); len(r.Unreachable) != 1 || r.Unreachable[0] != "r" {
					t.Errorf("%+v", r)
				}
			})
		})
	}
}

func TestAResultThatBreaksARuleEndsTheLink(t *testing.T) {
	result := func(sequence uint64) *peerv1.DataResponse {
		return &peerv1.DataResponse{Body: &peerv1.DataResponse_Result{Result: &peerv1.ForwardResult{
			Sequence: sequence, Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}},
		}}}
	}
	batch := func(begun uint64, results ...*peerv1.DataResponse) *peerv1.DataResponse {
		b := &peerv1.ForwardResultBatch{Begun: begun}
		for _, r := range results {
			b.Results = append(b.Results, r.GetResult())
		}
		return &peerv1.DataResponse{Body: &peerv1.DataResponse_Batch{Batch: b}}
	}
	for name, answers := range map[string][]*peerv1.DataResponse{
		"empty batch":        {batch(0)},
		"batch of no call":   {batch(0, result(2))},
		"twice in a batch":   {batch(0, result(1), result(1))},
		"begun is too much":  {batch(2)},
		"begun again, twice": {batch(1, result(1)), batch(1)},
		"second hello": {
			{Body: &peerv1.DataResponse_Hello{Hello: &peerv1.LaneHelloAnswer{}}},
		},
		"nothing": {{}},
		"no result": {
			{Body: &peerv1.DataResponse_Result{Result: &peerv1.ForwardResult{Sequence: 1}}},
		},
		"of no call": {result(2)},
		"of call 0":  {result(0)},
		"twice":      {result(1), result(1)},
		"of a join": {{Body: &peerv1.DataResponse_Result{Result: &peerv1.ForwardResult{
			Sequence: 1, Result: &peerv1.ForwardResult_Join{},
		}}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rogue{control: says()}
			r.data = func(stream peerv1.PeerService_DataServer) error {
				if _, err := stream.Recv(); err != nil {
					return err
				}
				for _, a := range answers {
					if err := stream.Send(a); err != nil {
						return err
					}
				}
				return drain(stream.Recv)
			}
			besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
				time.Sleep(50 * time.Millisecond)
				began := time.Now()
				_, outcomes := x.send(t.Context(), "me", "1", Query{})
				if len(outcomes) != 1 ||
					(outcomes[0].Result != nil) != strings.Contains(name, "twice") ||
					time.Since(began) > 0 {
					t.Errorf("%v after %v", outcomes, time.Since(began))
				}
				synctest.Wait()
				if n := x.metric(t, "connhub_mesh_links_ended_total", "violation"); n != 1 {
					t.Errorf("%v links ended because of a violation", n)
				}
			})
		})
	}
}

// TestAResultOfACallThatIsNotSentYetIsNone: it would make room in a window that is full.
func TestAResultOfACallThatIsNotSentYetIsNone(t *testing.T) {
	r := &rogue{control: says()}
	var released atomic.Bool // a channel would have to belong to the bubble
	r.data = func(stream peerv1.PeerService_DataServer) error {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		for !released.Load() {
			time.Sleep(time.Millisecond)
		}
		for n := range uint64(laneCalls) { // it reads no more, so most calls are in line
			result := &peerv1.ForwardResult{
				Sequence: n + 1, Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}},
			}
			err := stream.Send(&peerv1.DataResponse{
				Body: &peerv1.DataResponse_Result{Result: result},
			})
			if err != nil {
				return err
			}
		}
		<-stream.Context().Done()
		return nil
	}
	besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
		time.Sleep(50 * time.Millisecond)
		text := string(make([]byte, callWeight/2))
		var calls sync.WaitGroup
		for range laneCalls + 100 {
			to := x.Route(Query{}).To
			calls.Go(func() { x.forward(t.Context(), "me", text, to).Wait(t.Context()) })
		}
		synctest.Wait()
		began := time.Now()
		released.Store(true)
		calls.Wait()
		synctest.Wait()
		if took := time.Since(began); took > time.Millisecond {
			t.Errorf("took %v", took)
		}
		if n := x.metric(t, "connhub_mesh_links_ended_total", "violation"); n != 1 {
			t.Errorf("%v links ended because of a violation", n)
		}
	})
}

func TestADialThatIsNotAnsweredEndsAfter5Seconds(t *testing.T) {
	r := &rogue{control: func(_ *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
		return drain(stream.Recv)
	}}
	besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
		began := time.Now()
		time.Sleep(core.DialTimeout - time.Millisecond)
		if s := x.sees(&member{id: "r"}).State; s != PeerDialled {
			t.Errorf("it is %v", s)
		}
		time.Sleep(10 * time.Second)
		want := []time.Duration{
			0, core.DialTimeout + 200*time.Millisecond, 2*core.DialTimeout + 600*time.Millisecond,
		}
		if got := r.dials(t, began); len(got) != 3 || got[1] != want[1] || got[2] != want[2] {
			t.Errorf("dialled at %v, want %v", got, want)
		}
		if n := x.metric(t, "connhub_mesh_dials_failed_total", "none"); n != 2 {
			t.Errorf("%v dials failed", n)
		}
	})
}

func TestALaneThatIsNotAnsweredEndsTheLink(t *testing.T) {
	r := &silentLanes{rogue{control: says()}}
	inBubble(t, func(t *testing.T, b *bubble) {
		x := b.start("a")
		defer b.serve("rogue:1", r).Stop()
		b.list("r", "rogue:1")
		time.Sleep(core.DialTimeout - time.Millisecond)
		if s := x.Peers()[0].State; s != PeerLinked {
			t.Errorf("it is %v", s)
		}
		time.Sleep(2 * time.Millisecond)
		if n := x.metric(t, "connhub_mesh_links_ended_total", "lane_lost"); n != 1 {
			t.Errorf("%v links were ended: %+v", n, x.Peers())
		}
	})
}

// silentLanes is a rogue that sends nothing on a lane.
type silentLanes struct{ rogue }

func (r *silentLanes) Data(stream peerv1.PeerService_DataServer) error {
	return drain(stream.Recv)
}

func TestFailedDialsAreMoreAndMoreApart(t *testing.T) {
	for name, control := range map[string]func(
		*peerv1.Hello, peerv1.PeerService_ControlServer,
	) error{
		"hangs up at once": func(*peerv1.Hello, peerv1.PeerService_ControlServer) error {
			return nil
		},
		"refuses": func(*peerv1.Hello, peerv1.PeerService_ControlServer) error {
			return toStatus(core.ErrViolation)
		},
		"answers with something else": saysFirst(&peerv1.ProbeAnswer{Number: 1}),
	} {
		t.Run(name, func(t *testing.T) {
			r := &rogue{control: control}
			besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
				began := time.Now()
				time.Sleep(30 * time.Second)
				var want []time.Duration
				for at, pause := time.Duration(0), 2*core.RedialFirst; at < 30*time.Second; at,
					pause = at+pause, min(2*pause, core.RedialMost) {
					want = append(want, at)
				}
				got := r.dials(t, began)
				if len(got) != len(want) {
					t.Fatalf("dialled at %v, want %v", got, want)
				}
				for i := range want {
					if got[i] != want[i] {
						t.Errorf("dialled at %v, want %v", got, want)
					}
				}
				if n := strings.Count(x.log.String(), "dial failed"); n != 1 {
					t.Errorf("%d lines in the log", n)
				}
			})
		})
	}
}

func saysFirst(m proto.Message) func(*peerv1.Hello, peerv1.PeerService_ControlServer) error {
	return func(_ *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
		if err := stream.Send(answering(m)); err != nil {
			return err
		}
		return drain(stream.Recv)
	}
}

// A peer that takes hellos and hangs up is no better than a peer that does not answer.
func TestALinkThatEndsIsRedialledAtOnceOnlyIfAProbeWasAnswered(t *testing.T) {
	for _, c := range []struct {
		name    string
		answers bool
		dials   int
	}{
		{"never answered", false, 3}, // after 200 and 400 ms; the next would be after 800
		{"answered", true, 10},       // after 100 ms each time
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &rogue{}
			r.control = func(h *peerv1.Hello, stream peerv1.PeerService_ControlServer) error {
				err := stream.Send(answering(answerTo(h)))
				if err != nil || !c.answers {
					return err
				}
				probe, err := stream.Recv()
				if err != nil {
					return err
				}
				return stream.Send(answering(&peerv1.ProbeAnswer{
					Number: probe.GetProbe().GetNumber(),
				}))
			}
			besideRogue(t, r, func(t *testing.T, _ *bubble, x *member) {
				time.Sleep(time.Second - time.Millisecond)
				if got := r.dials(t, time.Now()); len(got) != c.dials {
					t.Errorf("dialled at %v", got)
				}
				n := x.metric(t, "connhub_mesh_links_ended_total", "hung_up")
				if int(n) != c.dials {
					t.Errorf("%v links ended", n)
				}
			})
		})
	}
}
