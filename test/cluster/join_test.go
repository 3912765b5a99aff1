package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// joinLimit is the longest that a join may take: a filter lease, and some time to call.
	joinLimit = 600 * time.Millisecond
	// joinWorkers join and send at once.
	joinWorkers = 6
	// joinMembers are at each hub.
	joinMembers = 30
	// mostNamedOfJoins is the share of joins whose sends may name the member's hub as unreachable.
	mostNamedOfJoins = 0.01
	// frozenWork is for how long joins and sends go on at most while a hub is stopped.
	frozenWork = 9 * time.Second
	// freezeLimit bounds the time that a hub is stopped, so that neither its clients nor its peers
	// give it up. A hub that stood still for 15 s may have been forgotten, and starts anew.
	freezeLimit = 14 * time.Second
)

// readYourWrites proves that a join is in force at every hub when it returns: a message that is
// sent to the group at once, through a different hub, reaches the member. This holds while a hub is
// stopped. It also holds for a send through the stopped hub, which finds the send when it continues
// with its old knowledge. No join waits for long, whichever hub hangs.
func (c *cluster) readYourWrites(t *testing.T, joins int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d, %d joins", seed, joins)
	crowd, all := c.joiners(t, seed)
	third := joins / 3
	const longest = time.Hour // nothing is stopped meanwhile
	phase := func(count int, nodes []int, limit time.Duration) {
		began := time.Now()
		together(t, joinWorkers, func(worker int) error {
			for range count / joinWorkers {
				if time.Since(began) > limit {
					return nil
				}
				if err := all[worker].step(t.Context(), nodes); err != nil {
					return fmt.Errorf("worker %d: %w", worker, err)
				}
			}
			return nil
		})
	}
	phase(third, []int{0, 1, 2}, longest)
	c.withFrozen(t, all, func() { phase(third, []int{0, 1}, frozenWork) })
	phase(joins-2*third, []int{0, 1, 2}, longest)

	summarize(t, crowd, all)
	crowd.CheckStrays(t)
	c.checkInvariants(t)
}

// joiners makes a crowd that is spread over the hubs, and joiners that put its members in groups.
func (c *cluster) joiners(t *testing.T, seed uint64) (*tally.Crowd, []*joiner) {
	t.Helper()
	crowd := c.newCrowd(t)
	for i := range joinMembers * len(c.nodes) {
		crowd.Add("default", fmt.Sprint("user-", i), "")
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	c.awaitCalm(t)
	all := make([]*joiner, joinWorkers)
	for i := range all {
		all[i] = newJoiner(t, c, crowd, i, seed)
	}
	return crowd, all
}

// withFrozen stops the third hub, runs work with the rest, and continues the hub. Sends through it
// to groups that came while it was stopped are the first that it finds then.
func (c *cluster) withFrozen(t *testing.T, all []*joiner, work func()) {
	t.Helper()
	frozen := c.nodes[2]
	goOn := frozen.freeze(t)
	defer goOn()
	work()
	if !c.nodes[0].hubs(t)[frozen.Hub].GetSuspect() {
		t.Error("the hub that is stopped answers: the test proves little")
	}

	var late sync.WaitGroup
	called := make(chan struct{}, len(all))
	for _, j := range all {
		late.Go(func() {
			// Joined while the third hub is stopped, and sent through it.
			bed.Report(t, j.join(t.Context(), []int{0, 1}, 2, func() { called <- struct{}{} }))
		})
	}
	for range all {
		<-called
	}
	goOn()
	late.Wait()
	for _, n := range c.nodes {
		c.awaitReached(t, n)
	}
}

// freeze stops a hub until goOn is called, the first time. That must be soon enough.
func (n *node) freeze(t *testing.T) (goOn func()) {
	t.Helper()
	n.Signal(t, syscall.SIGSTOP)
	limit := time.AfterFunc(freezeLimit, n.Continue)
	return sync.OnceFunc(func() {
		if !limit.Stop() {
			t.Errorf("the work while hub %d was stopped took longer than %v: the hub went on "+
				"before its end", n.number, freezeLimit)
		}
		n.Signal(t, syscall.SIGCONT)
	})
}

// joiner puts members in groups and sends to them, one join after another.
type joiner struct {
	hubs []int // processes of the hubs, when the joiner began

	number     int
	cluster    *cluster
	members    [][]*tally.Member // this joiner's members, by node
	random     *rand.Rand
	groups     []controlv1.GroupServiceClient // by node
	deliveries []controlv1.DeliveryServiceClient

	sent int
	want map[*tally.Member][]int // the numbers of the messages that it must get
	// and of the messages that it may get, because the receipt named its hub as unreachable
	may     map[*tally.Member][]int
	took    []time.Duration // each join
	joins   int
	unknown int // joins that named the member's hub as unreachable, and so have no send
	// messages in may that went through a hub that had just continued, and so found all peers
	// silent
	woke int

	stale atomic.Int64 // joins and sends whose answers both tell for how long etcd has been silent
}

func newJoiner(t *testing.T, c *cluster, crowd *tally.Crowd, number int, seed uint64) *joiner {
	t.Helper()
	j := &joiner{
		number: number, cluster: c, hubs: c.processes(),
		random:  rand.New(rand.NewPCG(seed, uint64(number))),
		members: make([][]*tally.Member, len(c.nodes)), want: map[*tally.Member][]int{},
		may:        map[*tally.Member][]int{},
		deliveries: c.deliveries(t, number),
	}
	for _, n := range c.nodes {
		j.groups = append(j.groups, controlv1.NewGroupServiceClient(c.dial(t, n, number)))
	}
	for _, m := range crowd.Members {
		if m.Index/len(c.nodes)%joinWorkers == number {
			at := m.Index % len(c.nodes)
			j.members[at] = append(j.members[at], m)
		}
	}
	return j
}

// step joins at a node and sends at a different node.
func (j *joiner) step(ctx context.Context, nodes []int) error {
	return j.join(ctx, nodes, -1, func() {})
}

// join puts a member at a random node in a new group, by a call to a random node. Then it sends to
// the group through a different node, or through the given node. It signals when it is about to
// send.
func (j *joiner) join(ctx context.Context, nodes []int, through int, sending func()) error {
	pick := func() int { return nodes[j.random.IntN(len(nodes))] }
	candidates := j.members[pick()]
	m := candidates[j.random.IntN(len(candidates))]
	by := pick()
	late := through >= 0
	for through < 0 || through == by {
		through = pick()
	}
	group := fmt.Sprint("joined-", j.number, "-", j.joins)
	// after a join without a clear result the member may be in: no further join uses its group
	j.joins++
	target := &controlv1.Target{Connections: []string{m.ID}}

	meter := testkit.NewMeter(j.hubs...)
	began := time.Now()
	joined, err := j.groups[by].AddToGroups(
		ctx, &controlv1.AddToGroupsRequest{Target: target, Groups: []string{group}},
	)
	took := time.Since(began)
	meter.Stop()
	j.took = append(j.took, took)
	sending()
	switch {
	case err != nil:
		return err
	case took > joinLimit && took > meter.Limit(joinLimit): // the meter costs more than a join
		return fmt.Errorf("a join took %v, limit %v", took, meter.Limit(joinLimit))
	case slices.Contains(joined.GetUnreachableHubs(), m.Hub):
		j.unknown++ // nothing is promised of a join that says so
		return nil
	case joined.GetAdded() != 1:
		return fmt.Errorf(
			"%s at hub %s was not added through hub %d: %v", m.ID, m.Hub, by+1, joined,
		)
	}
	response, err := j.deliveries[through].Send(ctx, &controlv1.SendRequest{
		Target: &controlv1.Target{Groups: []string{group}}, Wait: controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(bed.CallLimit),
		Message: &controlv1.Message{
			Payload: &controlv1.Message_Text{Text: fmt.Sprint(j.number, " ", j.sent)},
		},
	})
	if err != nil {
		return err
	}
	n := j.sent
	j.sent++
	if joined.GetDiscoveryStaleFor().AsDuration() > 0 &&
		response.GetReceipt().GetDiscoveryStaleFor().AsDuration() > 0 {
		j.stale.Add(1)
	}
	switch receipt := response.GetReceipt(); {
	case receipt.GetWritten() == 1:
		j.want[m] = append(j.want[m], n)
	case slices.Contains(receipt.GetUnreachableHubs(), m.Hub):
		j.may[m] = append(j.may[m], n)
		if late {
			j.woke++
		}
	default:
		return fmt.Errorf("%s at hub %s joined %s through hub %d in %v, and missed what was sent "+
			"through hub %d: %v",
			m.ID, m.Hub, group, by+1, took, through+1, receipt)
	}
	_, err = j.groups[by].RemoveFromGroups(
		ctx, &controlv1.RemoveFromGroupsRequest{Target: target, Groups: []string{group}},
	)
	return err
}

// summarize checks that every member got all messages for it, and logs how long joins took.
func summarize(t *testing.T, crowd *tally.Crowd, all []*joiner) {
	t.Helper()
	all[0].cluster.sayLast(t, all[0].cluster.nodes[0], "default")
	tally.AwaitEnd(t, crowd.Members)
	var took []time.Duration
	sent, named, woke, came, unknown := 0, 0, 0, 0, 0
	for _, j := range all {
		took, sent, woke, unknown = append(took, j.took...),
			sent+j.sent, woke+j.woke, unknown+j.unknown
		for _, m := range crowd.Members {
			missing, ok := tally.Surplus(m.Got[j.number], j.want[m], j.may[m])
			if !ok {
				t.Errorf("%s got %v from worker %d, want %v, and may have %v",
					m.User, m.Got[j.number], j.number, j.want[m], j.may[m])
			}
			named, came = named+len(j.may[m]), came+len(j.may[m])-len(missing)
			m.MayStillGet(j.number, missing)
		}
	}
	slices.Sort(took)
	t.Logf("%d joins and as many sends, none missed; %d joins name the member's hub as "+
		"unreachable, too; %d receipts name the member's hub as unreachable, %d of them through "+
		"a hub that had just gone on, %d delivered; a join took %v, p99 %v, at most %v",
		sent, unknown, named, woke, came, took[len(took)/2], took[len(took)*99/100],
		took[len(took)-1])
	most := all[0].cluster.machine.Share(mostNamedOfJoins) * float64(sent)
	if float64(named-woke+unknown) > most {
		t.Errorf("of %d joins and sends %d name a hub as unreachable, want %.0f at most: the "+
			"test proves little", sent, named-woke+unknown, most)
	}
}
