package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// stuckWait is how long a send waits for a stuck hub. stuckLimit bounds the time until its
	// answer.
	stuckWait  = 500 * time.Millisecond
	stuckLimit = time.Second
	// pileLimit bounds a send that waits for no hub.
	pileLimit = 5 * time.Second
	// stuckPile messages of a mebibyte are more than a hub keeps for a peer that does not take
	// them.
	stuckPile = 40
	// stuckTime is the time for which the hub is surely stuck. After 25 s its connection is given
	// up, and the next connection is not stuck. stuckSends, stuckBatches and stuckBatch are so few
	// that an idle machine needs less.
	stuckTime    = 20 * time.Second
	stuckSends   = 10
	stuckBatches = 3
	stuckBatch   = 20
)

// stickData proves that a hub whose data path is stuck, while it answers probes and so is not
// suspect, costs no caller anything, not even the caller whose calls pile up before it. Messages of
// that caller to all clients reach the clients of the remaining hubs at once, alone or on a stream,
// and the answer names the stuck hub.
func (c *cluster) stickData(t *testing.T) {
	t.Helper()
	crowd := c.newCrowd(t)
	for i := range c.nodes {
		crowd.Add("default", fmt.Sprint("user-", i), "", "all").Heard = make(
			chan time.Time, stuckSends,
		)
	}
	crowd.Add("default", "bulk", "") // at the last hub; its messages are not checked
	last := len(c.nodes) - 1
	c.enter(t, crowd, crowd.Members, func(m *tally.Member) *node {
		return c.nodes[min(m.Index, last)]
	})
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	c.awaitCalm(t)

	s := &stuckSender{
		hubs: c.processes(), members: crowd.Members[:len(c.nodes)], stuck: c.nodes[last].Hub,
	}
	s.delivery = controlv1.NewDeliveryServiceClient(c.dial(t, c.nodes[0], s.number()))
	s.stick(t, c)
	for range stuckSends {
		s.send(t)
	}
	t.Logf("answers came within %v, messages within %v", s.answered, s.arrived)
	s.stream(t)
	if len(s.named) == 0 {
		t.Error("no message names the hub that is stuck")
	}
	h := c.nodes[0].hubs(t)[s.stuck]
	if time.Since(s.since) < stuckTime && (h.GetSuspect() || !h.GetReachable()) {
		t.Errorf("the hub does not answer probes either: %v", h)
	}

	c.nodes[last].relay.Mend()
	testkit.Eventually(t, "the hub is not stuck any more", func() bool {
		return len(s.call(t).GetUnreachableHubs()) == 0
	})
	c.sayLast(t, c.nodes[0], "default")
	tally.AwaitEnd(t, s.members)
	s.check(t)
	crowd.CheckStrays(t)
	c.checkInvariants(t)
}

// stuckSender is a caller of the cluster with a stuck hub.
type stuckSender struct {
	hubs     []int // processes of all hubs
	delivery controlv1.DeliveryServiceClient
	members  []*tally.Member // one at each hub, the last at the stuck hub
	stuck    string

	since             time.Time // when the hub got stuck
	sent              int
	named             []int // messages whose receipts name the hub that is stuck
	answered, arrived time.Duration
}

// number returns the caller's number in the counts of members.
func (s *stuckSender) number() int { return 0 }

// stick stalls the connections over which peers send to the last hub. It lets the caller pile up
// more than a hub keeps for a slow peer.
func (s *stuckSender) stick(t *testing.T, c *cluster) {
	t.Helper()
	bulk := &controlv1.SendRequest{
		Target: &controlv1.Target{Users: []string{"bulk"}}, Wait: controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(bed.CallLimit),
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: "1 0 " + strings.Repeat("x", mebibyte-4)},
		},
	}
	others := c.nodes[:len(c.nodes)-1]
	for _, n := range others {
		response, err := controlv1.NewDeliveryServiceClient(n.backend).Send(t.Context(), bulk)
		if err != nil || response.GetReceipt().GetWritten() != 1 {
			t.Fatalf("bulk through hub %d: %v, %v", n.number, response, err)
		}
	}
	// A hub dials each peer twice, for probes and for data. Large messages have passed over the
	// data connection.
	s.since = time.Now()
	if got := c.nodes[len(others)].relay.StallBusy(mebibyte); got != len(others) {
		t.Fatalf("%d connections carry data, want one from each other hub", got)
	}

	bulk.Wait = controlv1.Wait_WAIT_NONE
	bulk.Message.Payload = &controlv1.Message_Text{
		Text: "1 0 " + strings.Repeat("x", mebibyte-4),
	}
	began, longest := s.since, time.Duration(0)
	for i := range stuckPile {
		ctx, cancel := context.WithTimeout(t.Context(), pileLimit)
		before := time.Now()
		_, err := s.delivery.Send(ctx, bulk)
		cancel()
		if err != nil {
			t.Fatalf("message %d to the hub that is stuck, %v after the first: %v",
				i, time.Since(began), err)
		}
		longest = max(longest, time.Since(before))
	}
	t.Logf("%d messages of %d bytes to the hub that is stuck in %v, each within %v",
		stuckPile, mebibyte, time.Since(began), longest)
}

// request is the next message to all.
func (s *stuckSender) request() *controlv1.SendRequest {
	s.sent++
	return &controlv1.SendRequest{
		Target: &controlv1.Target{Groups: []string{"all"}}, Wait: controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(stuckWait),
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: fmt.Sprint(s.number(), " ", s.sent)},
		},
	}
}

// call sends a message. It checks that all copies are written unless the answer names a hub.
func (s *stuckSender) call(t *testing.T) *controlv1.Receipt {
	t.Helper()
	response, err := s.delivery.Send(t.Context(), s.request())
	if err != nil {
		t.Fatal(err)
	}
	s.take(t, s.sent, response.GetReceipt())
	return response.GetReceipt()
}

// take checks that a message is written to all members, or to all but those at the stuck hub, which
// the answer then names.
func (s *stuckSender) take(t *testing.T, number int, receipt *controlv1.Receipt) {
	t.Helper()
	hubs, want := receipt.GetUnreachableHubs(), len(s.members)
	if len(hubs) > 0 {
		s.named = append(s.named, number)
		want--
	}
	if int(receipt.GetWritten()) != want ||
		len(hubs) > 0 && !slices.Equal(hubs, []string{s.stuck}) {
		t.Errorf("message %d: %v, want %d written and no hub named but %s",
			number, receipt, want, s.stuck)
	}
}

// send sends a message while the hub is stuck.
func (s *stuckSender) send(t *testing.T) {
	t.Helper()
	meter := testkit.NewMeter(s.hubs...)
	defer meter.Stop()
	began := time.Now()
	receipt := s.call(t)
	took := time.Since(began)
	s.answered = max(s.answered, took)
	unnamed := len(receipt.GetUnreachableHubs()) == 0 && time.Since(s.since) < stuckTime
	if limit := meter.Limit(stuckLimit); took > limit || unnamed {
		t.Errorf("message %d: %v after %v, want the hub that is stuck named after %v at most",
			s.sent, receipt, took, limit)
	}
	for _, m := range s.members[:len(s.members)-1] {
		at, _ := testkit.Receive(t, fmt.Sprintf("message %d at %s", s.sent, m.User), m.Heard)
		arrival := at.Sub(began)
		s.arrived = max(s.arrived, arrival)
		if limit := meter.Limit(stuckWait); arrival >= limit {
			t.Errorf("message %d was with %s after %v, not before %v: it waited for the hub "+
				"that is stuck", s.sent, m.User, arrival, limit)
		}
	}
}

// stream sends batches on a stream while the hub is stuck.
func (s *stuckSender) stream(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bed.CallLimit)
	defer cancel()
	stream, err := s.delivery.SendStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	meter := testkit.NewMeter(s.hubs...)
	defer meter.Stop()
	longest := time.Duration(0)
	for range stuckBatches {
		batch := &controlv1.SendStreamRequest{}
		for range stuckBatch {
			request := s.request()
			batch.Sends = append(
				batch.Sends, &controlv1.StreamedSend{Sequence: int64(s.sent), Send: request},
			)
		}
		began, results := time.Now(), 0
		if err := stream.Send(batch); err != nil {
			t.Fatal(err)
		}
		for results < stuckBatch {
			response, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, result := range response.GetResults() {
				s.take(t, int(result.GetSequence()), result.GetReceipt())
				results++
			}
		}
		longest = max(longest, time.Since(began))
	}
	t.Logf(
		"%d batches of %d on a stream, each answered within %v", stuckBatches, stuckBatch, longest,
	)
	if limit := meter.Limit(stuckLimit); longest > limit {
		t.Errorf("a batch had its answers after %v, want %v at most", longest, limit)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// check checks that each member got every message once and in order. Members at the stuck hub may
// miss messages.
func (s *stuckSender) check(t *testing.T) {
	t.Helper()
	slices.Sort(s.named)
	for i, m := range s.members {
		var want, may []int
		for n := 1; n <= s.sent; n++ {
			if _, named := slices.BinarySearch(s.named, n); named && i == len(s.members)-1 {
				may = append(may, n)
			} else {
				want = append(want, n)
			}
		}
		got := m.Got[s.number()]
		missing, ok := tally.Surplus(got, want, may)
		if !ok || !slices.IsSorted(got) {
			t.Errorf("%s got %v, want %v, and may have %v", m.User, got, want, may)
		}
		m.MayStillGet(s.number(), missing)
		if len(may) > 0 {
			t.Logf("%d messages name the hub that was stuck; %d of them came",
				len(may), len(may)-len(missing))
		}
	}
}
