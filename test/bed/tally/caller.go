package tally

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
)

// Callers is how many backends send at once.
const Callers = 8

// Caller is a backend that sends message after message, each when the message before is written
// everywhere.
type Caller struct {
	// Set by the test before RunCallers.
	Sends      int                               // how many messages it sends
	Deliveries []controlv1.DeliveryServiceClient // each message goes through one of them
	// Divert may send message n to clients that the caller does not count, and reports whether it
	// has. nil: it never does.
	Divert func(ctx context.Context, n int) (sent bool, err error)

	number int
	crowd  *Crowd
	random *rand.Rand
	want   [][]int // by member: the numbers of the messages that it must get
	// by member: messages that it may get, because the receipt named its hub as unreachable
	may    [][]int
	totals *Totals
}

// NewCaller makes a caller that reaches no hub yet. number is its number in the counts of members,
// below Callers. The crowd, number and seed decide its targets.
func NewCaller(c *Crowd, number int, seed uint64) *Caller {
	return &Caller{
		number: number, crowd: c, random: rand.New(rand.NewPCG(seed, uint64(number))),
		want: make([][]int, len(c.Members)), may: make([][]int, len(c.Members)),
		totals: NewTotals(),
	}
}

// RunCallers lets all callers send at once, and adds up their receipts. Messages that were diverted
// do not count.
func RunCallers(t *testing.T, all []*Caller) *Totals {
	t.Helper()
	var sending sync.WaitGroup
	for _, a := range all {
		sending.Go(func() { bed.Report(t, a.sendAll(t.Context())) })
	}
	sending.Wait()
	if t.Failed() {
		t.FailNow()
	}
	sum := NewTotals()
	for _, a := range all {
		sum.Join(a.totals)
	}
	return sum
}

// sendAll sends the caller's messages.
func (c *Caller) sendAll(ctx context.Context) error {
	for n := range c.Sends {
		diverted, err := c.divertOne(ctx, n)
		if !diverted && err == nil {
			err = c.sendCounted(ctx, n)
		}
		if err != nil {
			return fmt.Errorf("caller %d, message %d: %w", c.number, n, err)
		}
	}
	return nil
}

func (c *Caller) divertOne(ctx context.Context, n int) (sent bool, err error) {
	if c.Divert == nil {
		return false, nil
	}
	return c.Divert(ctx, n)
}

// pickDelivery draws the hub that takes the next message.
func (c *Caller) pickDelivery() controlv1.DeliveryServiceClient {
	return c.Deliveries[c.random.IntN(len(c.Deliveries))]
}

// sendCounted sends to clients that read, and holds the receipt against the model.
func (c *Caller) sendCounted(ctx context.Context, n int) error {
	request := &controlv1.SendRequest{
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: fmt.Sprint(c.number, " ", n)},
		},
		Wait:        controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(bed.CallLimit),
	}
	request.Namespace, request.Target = c.drawTarget()
	response, err := c.pickDelivery().Send(ctx, request)
	if err != nil {
		return err
	}
	receipt := response.GetReceipt()
	matched := 0
	for _, m := range c.crowd.Matched(request.GetNamespace(), request.GetTarget()) {
		if slices.Contains(receipt.GetUnreachableHubs(), m.Hub) {
			c.may[m.Index] = append(c.may[m.Index], n)
			continue
		}
		c.want[m.Index] = append(c.want[m.Index], n)
		matched++
	}
	if int(receipt.GetMatched()) != matched || receipt.GetWritten() != receipt.GetMatched() {
		return fmt.Errorf("receipt %v, want %d matched, all of them written; target %v",
			receipt, matched, request.GetTarget())
	}
	c.totals.Add(receipt)
	return CheckBalance(receipt)
}

// drawTarget draws a namespace and a target, so that most sends reach some dozens, and some reach
// all.
func (c *Caller) drawTarget() (string, *controlv1.Target) {
	ids := func(n int) []string {
		return drawSome(c, n, func() string {
			return c.crowd.Members[c.random.IntN(c.crowd.many)].ID
		})
	}
	users := func(n int) []string { return c.drawNames(n, "user-", c.crowd.users) }
	small := func(n int) []string { return c.drawNames(n, "small-", smallGroups) }
	switch p := c.random.IntN(1000); {
	case p < 3:
		large := c.drawNames(1, "large-", largeGroups)
		except := &controlv1.Exclusion{Users: users(2), Groups: large}
		return "default", &controlv1.Target{Everyone: true, Except: except}
	case p < 50:
		return "few", &controlv1.Target{Everyone: true}
	case p < 60:
		return "default", &controlv1.Target{Groups: c.drawNames(1, "large-", largeGroups)}
	case p < 160:
		return "default", &controlv1.Target{
			Connections: ids(3), Users: users(3), Groups: small(2),
			Except: &controlv1.Exclusion{
				Connections: ids(1), Users: users(1), Groups: c.drawNames(1, "large-", largeGroups),
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

// drawNames draws up to n names. Some draws have a name twice, or a name without members.
func (c *Caller) drawNames(n int, prefix string, count int) []string {
	return drawSome(c, n, func() string { return fmt.Sprint(prefix, c.random.IntN(count+1)) })
}

func drawSome(c *Caller, n int, next func() string) []string {
	var some []string
	for range 1 + c.random.IntN(n) {
		some = append(some, next())
	}
	return some
}

// Say sends a text to everyone in a namespace, written or not.
func Say(t *testing.T, conn *grpc.ClientConn, namespace, text string) *controlv1.Receipt {
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

// CheckDelivered checks that each member got all messages for it, once and in order, and that the
// receipts said so.
func CheckDelivered(t *testing.T, members []*Member, all []*Caller, sum *Totals) {
	t.Helper()
	frames, unreported := 0, 0
	for _, m := range members {
		frames += m.Frames + 1 // the last word
		for i, a := range all {
			missing, ok := Surplus(m.Got[i], a.want[m.Index], a.may[m.Index])
			if !ok {
				t.Fatalf("%s got %v from caller %d, want %v, and may have %v",
					m.User, m.Got[i], i, a.want[m.Index], a.may[m.Index])
			}
			unreported += len(a.may[m.Index]) - len(missing)
			m.MayStillGet(i, missing)
		}
	}
	t.Logf("%d messages to %d clients that read; %d of %d receipts name a hub as unreachable, %d "+
		"messages came all the same",
		frames, len(members), sum.Partial, sum.Receipts, unreported)
	if told := frames - unreported; sum.Written != told ||
		sum.Matched != told || len(sum.Dropped) != 0 {
		t.Errorf("receipts say %+v, clients have %d messages", sum, told)
	}
}

// Surplus checks that all of want came, in that order, and further only messages in may, each once.
// It returns the messages in may that did not come. If a receipt names a hub as unreachable, its
// message may still be on its way when the next message, through a different hub, has arrived.
func Surplus(got, want, may []int) (missing []int, ok bool) {
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
