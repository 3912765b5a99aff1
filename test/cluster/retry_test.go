package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// retryWorkers have a call each under way when a hub is killed.
	retryWorkers = 40
	// retryMembers are at each hub.
	retryMembers = 30
	// killAfter bounds the calls that are begun in a round before the kill. Every worker has begun
	// a call by then.
	killAfter = 5 * retryWorkers
	// The test proves something if a hub knows one in duplicateShare of the retries.
	duplicateShare = 10
	// killRounds bounds the rounds for each wanted round: sometimes the kill comes when most calls
	// are still on their way to the hub.
	killRounds = 4
)

// killAndRetry proves the purpose of request ids. A hub is killed with many calls in it, and each
// failed call is repeated with its request_id through a different hub. No client gets a message
// twice, and every client at a living hub gets it.
func (c *cluster) killAndRetry(t *testing.T, want int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	crowd := c.newCrowd(t)
	for i := range 2 * retryMembers {
		crowd.Add("default", fmt.Sprint("user-", i), "", fmt.Sprint("group-", i%7))
	}
	living := crowd.Members
	c.enter(t, crowd, living, func(m *tally.Member) *node { return c.nodes[1+m.Index%2] })
	crowd.Identify(t, c.nodes[1].backend, living)

	r := &retries{cluster: c, crowd: crowd, want: map[*tally.Member][]int{}}
	rounds := 0
	most := killRounds * (1 + want/retryWorkers)
	for ; r.retried < want || r.duplicates < r.retried/duplicateShare; rounds++ {
		if rounds == most {
			t.Fatalf("%d of %d calls had been known to another hub when theirs was killed: the "+
				"test proves little", r.duplicates, r.retried)
		}
		r.round(t, random)
	}
	t.Logf("%d retries after %d kills, of %d calls; %d of the retries were duplicates at a hub",
		r.retried, rounds, r.sent.Load(), r.duplicates)

	c.sayLast(t, c.nodes[1], "default")
	tally.AwaitEnd(t, living)
	for _, m := range living {
		got := slices.Sorted(slices.Values(m.Got[0]))
		slices.Sort(r.want[m])
		if !slices.Equal(got, r.want[m]) {
			t.Errorf("%s got %v, want %v", m.User, got, r.want[m])
		}
	}
	crowd.CheckStrays(t)
	for _, m := range crowd.Members[len(living):] {
		got := slices.Sorted(slices.Values(m.Got[0]))
		if len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%s, whose hub was killed, got %v: something twice", m.User, got)
		}
	}
	c.checkInvariants(t)
}

// retries kills a hub again and again.
type retries struct {
	cluster    *cluster
	crowd      *tally.Crowd
	sent       atomic.Int64 // the numbers of messages
	retried    int
	duplicates int

	mu   sync.Mutex
	want map[*tally.Member][]int // of the members at living hubs
}

// round lets every worker send through the first hub until it is killed. It repeats the failed
// calls through a different hub, and starts the killed hub again.
func (r *retries) round(t *testing.T, random *rand.Rand) {
	t.Helper()
	c, victim := r.cluster, r.cluster.nodes[0]
	begin := len(r.crowd.Members)
	for i := range retryMembers {
		r.crowd.Add("default", fmt.Sprint("doomed-", begin+i), "", fmt.Sprint("group-", i%7))
	}
	doomed := r.crowd.Members[begin:]
	c.enter(t, r.crowd, doomed, at(victim))
	c.awaitCalm(t)

	failed := make([][]*controlv1.SendRequest, retryWorkers)
	var sending sync.WaitGroup
	for i := range failed {
		delivery := controlv1.NewDeliveryServiceClient(victim.backend)
		own := rand.New(rand.NewPCG(random.Uint64(), uint64(i)))
		sending.Go(func() {
			var err error
			failed[i], err = r.sendUntilKilled(t.Context(), delivery, own)
			bed.Report(t, err)
		})
	}
	enough := r.sent.Load() + retryWorkers + 1 + random.Int64N(killAfter)
	testkit.Eventually(t, "calls are under way", func() bool { return r.sent.Load() >= enough })
	victim.Kill(t)
	sending.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, request := range slices.Concat(failed...) {
		r.retry(t, c.nodes[1+random.IntN(2)], request)
	}
	c.launch(t, victim)
	c.awaitReady(t, victim)
}

// sendUntilKilled sends message after message until a call fails. It returns the failed message,
// and the earlier messages whose receipts named a living hub as unreachable: on a busy machine a
// hub may seem so.
func (r *retries) sendUntilKilled(
	ctx context.Context, delivery controlv1.DeliveryServiceClient, random *rand.Rand,
) (failed []*controlv1.SendRequest, err error) {
	for {
		n := int(r.sent.Add(1))
		request := &controlv1.SendRequest{
			Target: r.target(random), Wait: controlv1.Wait_WAIT_WRITTEN,
			WaitTimeout: durationpb.New(bed.CallLimit),
			Message: &controlv1.Message{
				Payload: &controlv1.Message_Text{Text: fmt.Sprint("0 ", n)},
			},
			RequestId: fmt.Sprint("request-", n),
		}
		r.expect(request, n)
		response, err := delivery.Send(ctx, request)
		switch {
		case status.Code(err) == codes.Unavailable:
			return append(failed, request), nil
		case err != nil:
			return nil, err
		case !r.everybody(response.GetReceipt()):
			failed = append(failed, request)
		}
	}
}

func (r *retries) target(random *rand.Rand) *controlv1.Target {
	name := func(prefix string, of int) string { return fmt.Sprint(prefix, random.IntN(of)) }
	switch random.IntN(3) {
	case 0:
		return &controlv1.Target{Groups: []string{name("group-", 7), name("group-", 7)}}
	case 1:
		return &controlv1.Target{
			Users: []string{name("user-", 2*retryMembers), name("user-", 2*retryMembers)},
		}
	default:
		return &controlv1.Target{Everyone: true}
	}
}

// everybody reports whether every living hub has answered.
func (r *retries) everybody(receipt *controlv1.Receipt) bool {
	return !slices.ContainsFunc(r.cluster.nodes[1:], func(n *node) bool {
		return slices.Contains(receipt.GetUnreachableHubs(), n.Hub)
	})
}

func (r *retries) expect(request *controlv1.SendRequest, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.crowd.Matched("default", request.GetTarget()) {
		if m.Index < 2*retryMembers {
			r.want[m] = append(r.want[m], n)
		}
	}
}

// retry repeats a call until every hub that lives has answered.
func (r *retries) retry(t *testing.T, n *node, request *controlv1.SendRequest) {
	t.Helper()
	delivery := controlv1.NewDeliveryServiceClient(n.backend)
	r.retried++
	duplicate := false
	testkit.Eventually(t, "a retry reaches every hub that lives", func() bool {
		response, err := delivery.Send(t.Context(), request)
		if err != nil {
			t.Fatalf("retry of %s through hub %d: %v", request.GetRequestId(), n.number, err)
		}
		receipt := response.GetReceipt()
		duplicate = duplicate || receipt.GetDuplicate()
		return r.everybody(receipt)
	})
	if duplicate {
		r.duplicates++
	}
}
