package test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	// sends is the number of messages in the long form, shortSends that in the short form. In the
	// short form each kind of slow client still gets enough messages to fill up.
	sends, shortSends = 10_000, 5000
	// Every slowOf-th message of a caller is for slow clients, each kind of them in turn.
	slowOf = 10

	// The crowd. Users have three connections each, which are in three different pairs of groups.
	manyMembers = 2900 // in the namespace "default"
	manyUsers   = 967
	smallGroups = 60 // of 48 or 49
	largeGroups = 12 // of 241 or 242
	fewMembers  = 100
	slowMembers = 3 // for each way to be slow

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
	c := newCrowd()
	t.Cleanup(c.disperse) // after the house has closed
	h := openHouse(t, tightOutbox, sendBuffer)
	healthy := populate(c, manyMembers, manyUsers)
	slow := addSlow(c)
	conn := bed.DialControl(t, h.control)
	c.connect(t, healthy, h.dial(t, net.Dialer{}))
	c.connect(t, slow, h.dial(t, net.Dialer{Control: narrow}))
	c.identify(t, conn, c.members)
	c.read(healthy)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	all := make([]*caller, callers)
	for i := range all {
		all[i] = newCaller(c, i, seed)
		all[i].sends, all[i].slowly = bed.Either(shortSends, sends)/callers, true
		all[i].deliveries = []controlv1.DeliveryServiceClient{
			controlv1.NewDeliveryServiceClient(bed.DialControl(t, h.control)),
		}
	}
	sum := runCallers(t, all)
	sum.add(say(t, conn, "default", lastWord))
	sum.add(say(t, conn, "few", lastWord))
	awaitEnd(t, healthy)
	checkHealthy(t, healthy, all, sum)

	// The slow clients wake up. A repeated request id tells the final fate of each message.
	c.read(slow)
	var settled []*controlv1.SendRequest
	for _, a := range all {
		settled = append(settled, a.slow...)
	}
	checkSlow(t, h, c, settled, sum)
	checkMetrics(t, h, sum)
	checkNothingElse(t, h, c)
}

// populate makes the crowd of reading clients: the many and the few.
func populate(c *crowd, many, users int) []*member {
	c.many, c.users = many, users
	protocols := []string{"", envelope.Name}
	for i := range many {
		c.add("default", fmt.Sprint("user-", i%users), protocols[i%2],
			fmt.Sprint("small-", i%smallGroups), fmt.Sprint("large-", i/7%largeGroups))
	}
	for i := range fewMembers {
		c.add("few", fmt.Sprint("few-", i), protocols[i%2])
	}
	return slices.Clone(c.members)
}

// addSlow adds the clients that do not read.
func addSlow(c *crowd) (slow []*member) {
	for _, way := range slowWays {
		for i := range slowMembers {
			slow = append(slow, c.add("slow", fmt.Sprint(way.group, "-", i), "", way.group))
		}
	}
	return slow
}

// caller is a backend that sends message after message, each when the message before is written
// everywhere.
type caller struct {
	number     int
	crowd      *crowd
	random     *rand.Rand
	sends      int
	deliveries []controlv1.DeliveryServiceClient // each message goes through one of them
	slowly     bool                              // some messages are for clients that don't read

	want [][]int // by member: the numbers of the messages that it must get
	// by member: messages that it may get, because the receipt named its hub as unreachable
	may    [][]int
	slow   []*controlv1.SendRequest
	totals *totals
}

// newCaller makes a caller that reaches no hub yet.
func newCaller(c *crowd, number int, seed uint64) *caller {
	return &caller{
		number: number, crowd: c, random: rand.New(rand.NewPCG(seed, uint64(number))),
		want: make([][]int, len(c.members)), may: make([][]int, len(c.members)),
		totals: newTotals(),
	}
}

// runCallers has them all send, and adds up their receipts.
func runCallers(t *testing.T, all []*caller) *totals {
	t.Helper()
	var sending sync.WaitGroup
	for _, a := range all {
		sending.Go(func() { bed.Report(t, a.run(t.Context())) })
	}
	sending.Wait()
	if t.Failed() {
		t.FailNow()
	}
	sum := newTotals()
	for _, a := range all {
		sum.join(a.totals)
	}
	return sum
}

func (c *caller) run(ctx context.Context) error {
	for n := range c.sends {
		send := c.sendHealthy
		if c.slowly && n%slowOf == 0 {
			send = c.sendSlow
		}
		if err := send(ctx, n); err != nil {
			return fmt.Errorf("caller %d, message %d: %w", c.number, n, err)
		}
	}
	return nil
}

// delivery is the hub that takes the next message.
func (c *caller) delivery() controlv1.DeliveryServiceClient {
	return c.deliveries[c.random.IntN(len(c.deliveries))]
}

// sendHealthy sends to clients that read, and holds the receipt against the model.
func (c *caller) sendHealthy(ctx context.Context, n int) error {
	request := &controlv1.SendRequest{
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: fmt.Sprint(c.number, " ", n)},
		},
		Wait:        controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(bed.CallLimit),
	}
	request.Namespace, request.Target = c.target()
	response, err := c.delivery().Send(ctx, request)
	if err != nil {
		return err
	}
	receipt := response.GetReceipt()
	matched := 0
	for _, m := range c.crowd.matched(request.GetNamespace(), request.GetTarget()) {
		if slices.Contains(receipt.GetUnreachableHubs(), m.hub) {
			c.may[m.index] = append(c.may[m.index], n)
			continue
		}
		c.want[m.index] = append(c.want[m.index], n)
		matched++
	}
	if int(receipt.GetMatched()) != matched || receipt.GetWritten() != receipt.GetMatched() {
		return fmt.Errorf("receipt %v, want %d matched, all of them written; target %v",
			receipt, matched, request.GetTarget())
	}
	c.totals.add(receipt)
	return checkBalance(receipt)
}

// target draws a namespace and a target, so that most sends reach some dozens, and some reach all.
func (c *caller) target() (string, *controlv1.Target) {
	ids := func(n int) []string {
		return draw(c, n, func() string { return c.crowd.members[c.random.IntN(c.crowd.many)].id })
	}
	users := func(n int) []string { return c.names(n, "user-", c.crowd.users) }
	small := func(n int) []string { return c.names(n, "small-", smallGroups) }
	switch p := c.random.IntN(1000); {
	case p < 3:
		except := &controlv1.Exclusion{Users: users(2), Groups: c.names(1, "large-", largeGroups)}
		return "default", &controlv1.Target{Everyone: true, Except: except}
	case p < 50:
		return "few", &controlv1.Target{Everyone: true}
	case p < 60:
		return "default", &controlv1.Target{Groups: c.names(1, "large-", largeGroups)}
	case p < 160:
		return "default", &controlv1.Target{
			Connections: ids(3), Users: users(3), Groups: small(2),
			Except: &controlv1.Exclusion{
				Connections: ids(1), Users: users(1), Groups: c.names(1, "large-", largeGroups),
			},
		}
	case p < 360:
		return "default", &controlv1.Target{Groups: small(2)}
	case p < 620:
		return "default", &controlv1.Target{Users: users(4)}
	default:
		return "default", &controlv1.Target{Connections: ids(3)}
	}
}

// names draws up to n names. Some draws have a name twice, or a name without members.
func (c *caller) names(n int, prefix string, count int) []string {
	return draw(c, n, func() string { return fmt.Sprint(prefix, c.random.IntN(count+1)) })
}

func draw(c *caller, n int, one func() string) []string {
	var some []string
	for range 1 + c.random.IntN(n) {
		some = append(some, one())
	}
	return some
}

// sendSlow sends to clients that don't read, and does not wait for them.
func (c *caller) sendSlow(ctx context.Context, n int) error {
	turn := n/slowOf + c.number
	way := slowWays[turn%len(slowWays)]
	text := fmt.Sprint(c.number, " ", n, " ", strings.Repeat("z", slowPadding))
	request := &controlv1.SendRequest{
		Namespace:      "slow",
		Target:         &controlv1.Target{Groups: []string{way.group}},
		Message:        &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		OverflowPolicy: way.policy,
		RequestId:      fmt.Sprint(c.number, " ", n),
	}
	if way.keys > 0 && c.random.IntN(2) == 0 {
		request.ConflationKey = fmt.Sprint("key-", c.random.IntN(way.keys))
	} else if way.keys > 0 {
		request.ConflationKey = fmt.Sprint("only-", c.number, "-", n)
	}
	if way.ttl > 0 && turn/len(slowWays)%4 == 0 {
		request.Message.Ttl = durationpb.New(way.ttl)
	}
	response, err := c.delivery().Send(ctx, request)
	if err != nil {
		return err
	}
	c.slow = append(c.slow, request)
	return checkBalance(response.GetReceipt())
}

// checkBalance holds the identity of receipt.proto.
func checkBalance(r *controlv1.Receipt) error {
	sum := r.GetPending() + r.GetQueued() + r.GetQueuedDetached() + r.GetWritten() + r.GetAcked()
	for _, d := range r.GetDropped() {
		sum += d.GetCount()
	}
	if sum != r.GetMatched() {
		return fmt.Errorf("receipt does not add up: %v", r)
	}
	return nil
}

// totals adds receipts up.
type totals struct {
	receipts, matched, written int
	partial                    int // receipts with hubs that were not reached
	dropped                    map[controlv1.DropReason]int
}

func newTotals() *totals { return &totals{dropped: map[controlv1.DropReason]int{}} }

func (s *totals) add(r *controlv1.Receipt) {
	s.receipts++
	s.matched += int(r.GetMatched())
	s.written += int(r.GetWritten())
	s.partial += min(len(r.GetUnreachableHubs()), 1)
	for _, d := range r.GetDropped() {
		s.dropped[d.GetReason()] += int(d.GetCount())
	}
}

func (s *totals) join(o *totals) {
	s.receipts += o.receipts
	s.matched += o.matched
	s.written += o.written
	s.partial += o.partial
	for reason, n := range o.dropped {
		s.dropped[reason] += n
	}
}

// say sends a text to everyone in a namespace, written or not.
func say(t *testing.T, conn *grpc.ClientConn, namespace, text string) *controlv1.Receipt {
	t.Helper()
	response, err := controlv1.NewDeliveryServiceClient(conn).Send(t.Context(),
		&controlv1.SendRequest{
			Namespace:   namespace,
			Target:      &controlv1.Target{Everyone: true},
			Message:     &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
			Wait:        controlv1.Wait_WAIT_WRITTEN,
			WaitTimeout: durationpb.New(bed.CallLimit),
		})
	if err != nil {
		t.Fatal(err)
	}
	return response.GetReceipt()
}

// awaitEnd waits until each member has heard the last word, or is gone.
func awaitEnd(t *testing.T, members []*member) {
	t.Helper()
	for _, m := range members {
		testkit.Receive(t, m.user+" hears the last word", m.ended)
	}
}

// checkHealthy checks that each member got all messages for it, once and in order, and that the
// receipts said so.
func checkHealthy(t *testing.T, healthy []*member, all []*caller, sum *totals) {
	t.Helper()
	frames, unreported := 0, 0
	for _, m := range healthy {
		frames += m.frames + 1 // the last word
		for i, a := range all {
			missing, ok := surplus(m.got[i], a.want[m.index], a.may[m.index])
			if !ok {
				t.Fatalf("%s got %v from caller %d, want %v, and may have %v",
					m.user, m.got[i], i, a.want[m.index], a.may[m.index])
			}
			unreported += len(a.may[m.index]) - len(missing)
			m.mayStillGet(i, missing)
		}
	}
	t.Logf("%d messages to %d clients that read; %d of %d receipts name a hub as unreachable, %d "+
		"messages came all the same",
		frames, len(healthy), sum.partial, sum.receipts, unreported)
	if told := frames - unreported; sum.written != told ||
		sum.matched != told || len(sum.dropped) != 0 {
		t.Errorf("receipts say %+v, clients have %d messages", sum, told)
	}
}

// surplus checks that all of want came, in that order, and further only messages in may, each once.
// It returns the messages in may that did not come. If a receipt names a hub as unreachable, its
// message may still be on its way when the next message, through a different hub, has arrived.
func surplus(got, want, may []int) (missing []int, ok bool) {
	missing = slices.Clone(may)
	for _, n := range got {
		if len(want) > 0 && want[0] == n {
			want = want[1:]
			continue
		}
		i := slices.Index(missing, n)
		if i < 0 {
			return nil, false
		}
		missing = slices.Delete(missing, i, i+1)
	}
	return missing, len(want) == 0
}

// checkSlow asks for the fate of the messages to slow clients until it is final, and compares it
// with the messages that the clients have.
func checkSlow(t *testing.T, h *house, c *crowd, requests []*controlv1.SendRequest, sum *totals) {
	t.Helper()
	delivery := controlv1.NewDeliveryServiceClient(bed.DialControl(t, h.control))
	byGroup := map[string]*totals{}
	for _, way := range slowWays {
		byGroup[way.group] = newTotals()
	}
	for _, request := range requests {
		receipt := settle(t, delivery, request)
		byGroup[request.GetTarget().GetGroups()[0]].add(receipt)
	}
	word := say(t, bed.DialControl(t, h.control), "slow", lastWord)
	sum.add(word)
	awaitEnd(t, c.all["slow"])

	for _, way := range slowWays {
		group := byGroup[way.group]
		sum.join(group)
		frames := 0
		for _, m := range c.byGroup[way.group] {
			frames += m.frames
			checkSlowOrder(t, m, way.policy)
		}
		t.Logf("%s: %d of %d written, dropped %v", way.group,
			group.written, group.matched, group.dropped)
		if frames != group.written {
			t.Errorf("%s: receipts say %d written, clients have %d messages",
				way.group, group.written, frames)
		}
	}
	if want := int32(len(c.all["slow"]) - slowMembers); word.GetMatched() != want {
		t.Errorf("%d slow clients are left, want %d: only those of %s are closed",
			word.GetMatched(), want, slowWays[0].group)
	}
	for reason := range controlv1.DropReason_name {
		if reason != 0 && sum.dropped[controlv1.DropReason(reason)] == 0 {
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
	bed.Report(t, checkBalance(receipt))
	if !receipt.GetDuplicate() || receipt.GetQueued() != 0 {
		t.Fatalf("%q: the receipt is %v, want the one of the first send, settled",
			request.GetRequestId(), receipt)
	}
	return receipt
}

// checkSlowOrder checks that a slow client got no message twice, and the messages of a caller in
// order unless conflation moved them.
func checkSlowOrder(t *testing.T, m *member, policy controlv1.OverflowPolicy) {
	t.Helper()
	for i, got := range m.got {
		if policy == controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE {
			got = slices.Sorted(slices.Values(got))
		}
		for j := 1; j < len(got); j++ {
			if got[j] <= got[j-1] {
				t.Errorf("%s got %d after %d from caller %d", m.user, got[j], got[j-1], i)
			}
		}
	}
}

// checkMetrics holds the receipts of the whole test against the hub's counters.
func checkMetrics(t *testing.T, h *house, sum *totals) {
	t.Helper()
	got := map[string]int{
		"sends":   h.counter(t, "connhub_sends_total", ""),
		"matched": h.counter(t, "connhub_messages_matched_total", ""),
		"written": h.counter(t, "connhub_messages_written_total", ""),
	}
	want := map[string]int{"sends": sum.receipts, "matched": sum.matched, "written": sum.written}
	for reason, name := range controlv1.DropReason_name {
		if reason == 0 {
			continue
		}
		label := strings.ToLower(strings.TrimPrefix(name, "DROP_REASON_"))
		got[label] = h.counter(t, "connhub_messages_dropped_total", label)
		want[label] = sum.dropped[controlv1.DropReason(reason)]
	}
	if !maps.Equal(got, want) {
		t.Errorf("metrics say %v, receipts %v", got, want)
	}
}

// checkNothingElse closes all clients, and checks that no message came that was not sent.
func checkNothingElse(t *testing.T, h *house, c *crowd) {
	t.Helper()
	connections := controlv1.NewConnectionServiceClient(bed.DialControl(t, h.control))
	for namespace, members := range c.all {
		_, err := connections.CloseConnections(t.Context(), &controlv1.CloseConnectionsRequest{
			Namespace: namespace, Target: &controlv1.Target{Everyone: true},
			MaxMatched: int32(len(members)), Code: 4000,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	c.reading.Wait()
	for _, m := range c.members {
		tooSlow := slices.Contains(m.groups, slowWays[0].group)
		if len(m.strays) > 0 || !errors.Is(m.err, bed.ClosedError{Code: 4000}) && !tooSlow {
			t.Errorf("%s ended with %v, and got %.200q besides", m.user, m.err, m.strays)
		}
	}
}
