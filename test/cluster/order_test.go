package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// streamWindow is how many sends of a stream are without a result.
const streamWindow = 60

// keepOrder proves that the messages of a SendStream reach a client at a different hub in the order
// sent, each once. They go to its user, its group and its connection in turn, and the link between
// the hubs is cut again and again. Each receipt is true: the message is written, or the receipt
// names its hub.
func (c *cluster) keepOrder(t *testing.T, cuts int) {
	t.Helper()
	crowd := c.newCrowd(t)
	for i := range tally.Callers {
		crowd.Add("default", fmt.Sprint("user-", i), "", fmt.Sprint("group-", i))
	}
	entry, holder := c.nodes[0], c.nodes[1]
	c.enter(t, crowd, crowd.Members, at(holder))
	crowd.Identify(t, entry.backend, crowd.Members)
	c.awaitCalm(t)

	ctx, enough := context.WithCancel(t.Context())
	all := make([]*streamer, tally.Callers)
	for i := range all {
		all[i] = &streamer{
			number: i, member: crowd.Members[i], enough: ctx,
			window: make(chan struct{}, streamWindow),
		}
		all[i].delivery = controlv1.NewDeliveryServiceClient(c.dial(t, entry, i))
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer enough()
		c.cutAgainAndAgain(t, entry, holder, all, cuts)
	}()
	together(t, tally.Callers, func(i int) error { return all[i].run(t.Context()) })
	<-over

	c.awaitReached(t, entry)
	for _, s := range all {
		bed.Report(t, s.lastWord(t.Context()))
	}
	tally.AwaitEnd(t, crowd.Members)
	confirmed, unknown, came := 0, 0, 0
	for _, s := range all {
		got := s.member.Got[s.number]
		missing, ok := tally.Surplus(got, s.want, s.may)
		if !ok || !slices.IsSorted(got) {
			t.Errorf("%s got %v, want %v, and may have %v", s.member.User, got, s.want, s.may)
		}
		confirmed += len(s.want)
		unknown += len(s.may)
		came += len(s.may) - len(missing)
	}
	t.Logf(
		"%d messages confirmed; %d named their hub as unreachable, %d of them came",
		confirmed, unknown, came,
	)
	if ended := c.sum(t, "connhub_mesh_links_ended_total"); ended == 0 {
		t.Error("no link was cut")
	}
	crowd.CheckStrays(t)
	c.checkInvariants(t)
}

// cutAgainAndAgain cuts the links to a hub while streams are busy: at once, or after a silence that
// is long enough to make the hub suspect.
func (c *cluster) cutAgainAndAgain(t *testing.T, entry, holder *node, all []*streamer, cuts int) {
	for i := range cuts {
		if i%3 == 2 {
			holder.relay.Stall()
			if !testkit.Holds(t, func() bool { return entry.knows(holder).GetSuspect() }) {
				t.Error("a stalled hub is not suspect")
				return
			}
		}
		holder.relay.Cut()
		isSuspect := func() bool { return !entry.knows(holder).GetReachable() }
		if i%2 == 1 && !testkit.Holds(t, isSuspect) {
			t.Error("a hub that is cut off is reachable")
			return
		}
		holder.relay.Mend()
		for _, s := range all {
			before := s.written.Load()
			if !testkit.Holds(t, func() bool { return s.written.Load() > before+streamWindow }) {
				t.Errorf("stream %d does not go on after a cut", s.number)
				return
			}
		}
	}
}

// knows returns the knowledge of this hub about a peer. Nil means that it knows nothing or does not
// answer.
func (n *node) knows(other *node) *controlv1.Hub {
	ctx, cancel := context.WithTimeout(context.Background(), bed.CallLimit)
	defer cancel()
	hubs := controlv1.NewHubServiceClient(n.backend)
	response, err := hubs.ListHubs(ctx, &controlv1.ListHubsRequest{})
	if err != nil {
		return nil
	}
	for _, h := range response.GetHubs() {
		if h.GetId() == other.Hub {
			return h
		}
	}
	return nil
}

// streamer sends on a stream to a single member.
type streamer struct {
	number   int
	member   *tally.Member
	delivery controlv1.DeliveryServiceClient
	enough   context.Context
	window   chan struct{}
	written  atomic.Int64 // messages that are, by their receipts

	want, may []int
}

func (s *streamer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx) // its end is that of the cuts
	defer cancel()
	stream, err := s.delivery.SendStream(ctx)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- s.send(stream) }()
	if err := s.receive(stream); err != nil {
		return fmt.Errorf("stream %d: %w", s.number, err)
	}
	slices.Sort(s.want)
	slices.Sort(s.may)
	return <-sent
}

// send writes batches of three until it is enough.
func (s *streamer) send(stream controlv1.DeliveryService_SendStreamClient) error {
	for n := 1; s.enough.Err() == nil; n += 3 {
		batch := &controlv1.SendStreamRequest{}
		for i, target := range []*controlv1.Target{
			{Users: []string{s.member.User}},
			{Groups: s.member.Groups},
			{Connections: []string{s.member.ID}},
		} {
			select {
			case s.window <- struct{}{}:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
			batch.Sends = append(batch.Sends, &controlv1.StreamedSend{
				Sequence: int64(n + i), Send: s.request(target, n+i),
			})
		}
		if err := stream.Send(batch); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

func (s *streamer) request(target *controlv1.Target, n int) *controlv1.SendRequest {
	return &controlv1.SendRequest{
		Target: target, Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(time.Minute),
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: fmt.Sprint(s.number, " ", n)},
		},
	}
}

// receive takes results until the stream ends.
func (s *streamer) receive(stream controlv1.DeliveryService_SendStreamClient) error {
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		for _, result := range response.GetResults() {
			<-s.window
			n, receipt := int(result.GetSequence()), result.GetReceipt()
			switch {
			case receipt.GetWritten() == 1:
				s.want = append(s.want, n)
				s.written.Add(1)
			case slices.Contains(receipt.GetUnreachableHubs(), s.member.Hub):
				s.may = append(s.may, n)
			default:
				return fmt.Errorf("message %d: %v, want one written, or its hub named", n, result)
			}
		}
	}
}

// lastWord sends the last word to the member. It takes the same way as the messages before it, and
// so arrives behind them.
func (s *streamer) lastWord(ctx context.Context) error {
	request := s.request(&controlv1.Target{Connections: []string{s.member.ID}}, 0)
	request.Message.Payload = &controlv1.Message_Text{Text: tally.LastWord}
	response, err := s.delivery.Send(ctx, request)
	if err == nil && response.GetReceipt().GetWritten() != 1 {
		err = fmt.Errorf("the last word: %v", response.GetReceipt())
	}
	return err
}
