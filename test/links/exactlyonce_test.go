package links

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// sends is the number of messages in the long form, shortSends that in the short form. In the
	// short form each kind of slow client still gets enough messages to fill up.
	sends, shortSends = 10_000, 5000
	// Every slowOf-th message of a caller is for slow clients, each kind of them in turn.
	slowOf = 10

	// slowMembers is the number of slow clients for each way to be slow.
	slowMembers = 3
	// slowPadding makes slow clients slow soon: a few dozen such messages fill the kernel's buffers
	// and the outbox.
	slowPadding = 16 << 10
	sendBuffer  = 64 << 10
)

// tightOutbox is small for slow clients and large enough for the rest. A caller continues when its
// message is written everywhere, so at most one message of each caller is on its way to a client
// that reads.
var tightOutbox = hub.Bounds{Messages: 32, Bytes: 4 << 20}

// slowWays are the ways to treat slow clients; each has a group of them.
var slowWays = []struct {
	group  string
	policy controlv1.OverflowPolicy
	keys   int           // conflation keys in use
	ttl    time.Duration // of every fourth message
}{
	{"slow-close", controlv1.OverflowPolicy_OVERFLOW_POLICY_CLOSE, 0, 0},
	{"slow-oldest", controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST, 0, time.Millisecond},
	{"slow-newest", controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST, 0, 0},
	{"slow-conflate", controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE, 3, 0},
}

// TestManySendsExactlyOnce is the first promise of the product. Thousands of clients get messages
// while several backends send at once to all kinds of targets. Each client that matches gets each
// message once, in the order of its caller, regardless of slow clients. Receipts, metrics and the
// clients' counts agree to the last message. The test runs alone: the hub and all clients are in
// this process, and the race detector ends a process with more than 8,128 goroutines.
func TestManySendsExactlyOnce(t *testing.T) {
	c := tally.New()
	t.Cleanup(c.Disperse) // after the house has closed
	h := openHouse(t, tightOutbox, sendBuffer)
	healthy := c.AddMany(tally.ManyMembers, tally.ManyUsers)
	slow := addSlow(c)
	conn := bed.DialControl(t, h.control)
	c.Connect(t, healthy, h.dial(t, net.Dialer{}))
	c.ConnectUnread(t, slow, h.dial(t, net.Dialer{Control: narrow}))
	c.Identify(t, conn, c.Members)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	all, slowly := make([]*tally.Caller, tally.Callers), make([]*slowSender, tally.Callers)
	for i := range all {
		delivery := controlv1.NewDeliveryServiceClient(bed.DialControl(t, h.control))
		slowly[i] = &slowSender{
			number: i, random: rand.New(rand.NewPCG(seed, uint64(len(all)+i))), delivery: delivery,
		}
		all[i] = tally.NewCaller(c, i, seed)
		all[i].Sends, all[i].Divert = bed.Either(shortSends, sends)/len(all), slowly[i].send
		all[i].Deliveries = []controlv1.DeliveryServiceClient{delivery}
	}
	sum := tally.RunCallers(t, all)
	sum.Add(tally.Say(t, conn, "default", tally.LastWord))
	sum.Add(tally.Say(t, conn, "few", tally.LastWord))
	tally.AwaitEnd(t, healthy)
	tally.CheckDelivered(t, healthy, all, sum)

	// The slow clients wake up. A repeated request id tells the final fate of each message.
	c.Read(slow)
	var requests []*controlv1.SendRequest
	for _, s := range slowly {
		requests = append(requests, s.sent...)
	}
	checkSlow(t, h, c, requests, sum)
	checkMetrics(t, h, sum)
	checkNothingElse(t, h, c)
}

// addSlow adds the clients that do not read.
func addSlow(c *tally.Crowd) (slow []*tally.Member) {
	for _, way := range slowWays {
		for i := range slowMembers {
			slow = append(slow, c.Add("slow", fmt.Sprint(way.group, "-", i), "", way.group))
		}
	}
	return slow
}

// slowSender is the part of a caller that sends to clients that don't read. It does not wait for
// them.
type slowSender struct {
	number   int // of the caller
	random   *rand.Rand
	delivery controlv1.DeliveryServiceClient
	sent     []*controlv1.SendRequest
}

// send sends message n of the caller if it is for slow clients.
func (s *slowSender) send(ctx context.Context, n int) (sent bool, err error) {
	if n%slowOf != 0 {
		return false, nil
	}
	turn := n/slowOf + s.number
	way := slowWays[turn%len(slowWays)]
	text := fmt.Sprint(s.number, " ", n, " ", strings.Repeat("z", slowPadding))
	request := &controlv1.SendRequest{
		Namespace:      "slow",
		Target:         &controlv1.Target{Groups: []string{way.group}},
		Message:        &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		OverflowPolicy: way.policy,
		RequestId:      fmt.Sprint(s.number, " ", n),
	}
	if way.keys > 0 && s.random.IntN(2) == 0 {
		request.ConflationKey = fmt.Sprint("key-", s.random.IntN(way.keys))
	} else if way.keys > 0 {
		request.ConflationKey = fmt.Sprint("only-", s.number, "-", n)
	}
	if way.ttl > 0 && turn/len(slowWays)%4 == 0 {
		request.Message.Ttl = durationpb.New(way.ttl)
	}
	response, err := s.delivery.Send(ctx, request)
	if err != nil {
		return true, err
	}
	s.sent = append(s.sent, request)
	return true, tally.CheckBalance(response.GetReceipt())
}

// checkSlow asks for the fate of the messages to slow clients until it is final, and compares it
// with the messages that the clients have.
func checkSlow(
	t *testing.T, h *house, c *tally.Crowd, requests []*controlv1.SendRequest, sum *tally.Totals,
) {
	t.Helper()
	delivery := controlv1.NewDeliveryServiceClient(bed.DialControl(t, h.control))
	byGroup := map[string]*tally.Totals{}
	for _, way := range slowWays {
		byGroup[way.group] = tally.NewTotals()
	}
	for _, request := range requests {
		receipt := settle(t, delivery, request)
		byGroup[request.GetTarget().GetGroups()[0]].Add(receipt)
	}
	word := tally.Say(t, bed.DialControl(t, h.control), "slow", tally.LastWord)
	sum.Add(word)
	tally.AwaitEnd(t, c.In("slow"))

	for _, way := range slowWays {
		group := byGroup[way.group]
		sum.Join(group)
		frames := 0
		for _, m := range c.InGroup(way.group) {
			frames += m.Frames
			checkSlowOrder(t, m, way.policy)
		}
		t.Logf("%s: %d of %d written, dropped %v", way.group,
			group.Written, group.Matched, group.Dropped)
		if frames != group.Written {
			t.Errorf("%s: receipts say %d written, clients have %d messages",
				way.group, group.Written, frames)
		}
	}
	if want := int32(len(c.In("slow")) - slowMembers); word.GetMatched() != want {
		t.Errorf("%d slow clients are left, want %d: only those of %s are closed",
			word.GetMatched(), want, slowWays[0].group)
	}
	for reason := range controlv1.DropReason_name {
		if reason != 0 && sum.Dropped[controlv1.DropReason(reason)] == 0 {
			t.Errorf("no message was dropped for %v: the test proves less than it should",
				controlv1.DropReason(reason))
		}
	}
}

// settle repeats a send. The hub answers with the fate of the first send, once it is final.
func settle(
	t *testing.T, delivery controlv1.DeliveryServiceClient, request *controlv1.SendRequest,
) *controlv1.Receipt {
	t.Helper()
	request.Wait, request.WaitTimeout = controlv1.Wait_WAIT_WRITTEN, durationpb.New(bed.CallLimit)
	response, err := delivery.Send(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	receipt := response.GetReceipt()
	bed.Report(t, tally.CheckBalance(receipt))
	if !receipt.GetDuplicate() || receipt.GetQueued() != 0 {
		t.Fatalf("%q: the receipt is %v, want the one of the first send, settled",
			request.GetRequestId(), receipt)
	}
	return receipt
}

// checkSlowOrder checks that a slow client got no message twice, and the messages of a caller in
// order unless conflation moved them.
func checkSlowOrder(t *testing.T, m *tally.Member, policy controlv1.OverflowPolicy) {
	t.Helper()
	for i, got := range m.Got {
		if policy == controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE {
			got = slices.Sorted(slices.Values(got))
		}
		for j := 1; j < len(got); j++ {
			if got[j] <= got[j-1] {
				t.Errorf("%s got %d after %d from caller %d", m.User, got[j], got[j-1], i)
			}
		}
	}
}

// checkMetrics holds the receipts of the whole test against the hub's counters.
func checkMetrics(t *testing.T, h *house, sum *tally.Totals) {
	t.Helper()
	got := map[string]int{
		"sends":   h.counter(t, "connhub_sends_total", ""),
		"matched": h.counter(t, "connhub_messages_matched_total", ""),
		"written": h.counter(t, "connhub_messages_written_total", ""),
	}
	want := map[string]int{"sends": sum.Receipts, "matched": sum.Matched, "written": sum.Written}
	for reason, name := range controlv1.DropReason_name {
		if reason == 0 {
			continue
		}
		label := strings.ToLower(strings.TrimPrefix(name, "DROP_REASON_"))
		got[label] = h.counter(t, "connhub_messages_dropped_total", label)
		want[label] = sum.Dropped[controlv1.DropReason(reason)]
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics say %v, receipts %v", got, want)
	}
}

// checkNothingElse closes all clients, and checks that no message came that was not sent.
func checkNothingElse(t *testing.T, h *house, c *tally.Crowd) {
	t.Helper()
	connections := controlv1.NewConnectionServiceClient(bed.DialControl(t, h.control))
	for _, namespace := range c.Namespaces() {
		_, err := connections.CloseConnections(t.Context(), &controlv1.CloseConnectionsRequest{
			Namespace: namespace, Target: &controlv1.Target{Everyone: true},
			MaxMatched: int32(len(c.In(namespace))), Code: 4000,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.AwaitReaders()
	for _, m := range c.Members {
		tooSlow := slices.Contains(m.Groups, slowWays[0].group)
		if len(m.Strays) > 0 || !errors.Is(m.Err, bed.ClosedError{Code: 4000}) && !tooSlow {
			t.Errorf("%s ended with %v, and got %.200q besides", m.User, m.Err, m.Strays)
		}
	}
}
