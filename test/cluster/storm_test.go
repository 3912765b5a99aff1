package cluster

import (
	"fmt"
	"slices"
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
	// backLimit bounds the time until the clients of a hub that was killed are at others.
	backLimit = 30 * time.Second
	// loopEvery is the time between two messages to the clients of the others, and slowerLoop how
	// much longer one may take meanwhile.
	loopEvery, slowerLoop = 50 * time.Millisecond, 3
	// calmLoops is the number of messages before.
	calmLoops = 100
)

// TestAKilledHubsClientsAreBackAtTheConnectRate: the other hubs admit no more of them than they
// say, and serve their own clients meanwhile.
func TestAKilledHubsClientsAreBackAtTheConnectRate(t *testing.T) {
	t.Parallel()
	rate := bed.Either(50, 200)
	c := openCluster(t, plan{hubs: 3, flags: []string{fmt.Sprint("--connect-rate=", rate)}})
	victim, others := c.nodes[0], c.nodes[1:]
	audience := gatherAt(t, others, bed.Either(50, 500), "calm")
	path, err := others[0].invite(t.Context(), &tally.Member{Namespace: "default", User: "exile"})
	bed.Report(t, err)
	exiles := bed.StartHelper(t, exileRole)
	exiles.Tell(t, exileOrder{
		Clients: bed.Either(600, 5000), Doors: []string{victim.Clients}, Path: path,
	})
	var news exileNews
	exiles.Hear(t, &news)
	exiles.Tell(t, exileOrder{Doors: []string{others[0].Clients, others[1].Clients}})
	c.awaitCalm(t)

	s := &storm{nodes: others, namespace: audience.namespace}
	s.samples = make([][]sample, len(others))
	for range calmLoops {
		s.before = append(s.before, s.timeLoop(t))
	}
	meter := testkit.NewMeter(others[0].PID(), others[1].PID())
	defer meter.Stop()
	victim.Kill(t)
	isOver := func() bool {
		select {
		case line, ok := <-exiles.Answers:
			exiles.Understand(t, line, ok, &news)
			return true
		default:
			return false
		}
	}
	for over := false; !over; over = isOver() {
		s.during = append(s.during, s.timeLoop(t))
		s.sampleAll(t)
	}
	s.check(t, meter, rate, &news)
	c.nodes = others
	c.checkInvariants(t)
}

// storm is the return of many clients to hubs that have others.
type storm struct {
	nodes          []*node
	namespace      string // of the others
	before, during []time.Duration
	samples        [][]sample // by node
}

// sample is how many clients a hub had admitted at a time between two.
type sample struct {
	from, to time.Time
	admitted int
}

// timeLoop sends a message to the audience, and returns how long it took until the last client had
// it in its socket.
func (s *storm) timeLoop(t *testing.T) time.Duration {
	t.Helper()
	next := time.After(loopEvery)
	began := time.Now()
	response, err := controlv1.NewDeliveryServiceClient(s.nodes[0].backend).Send(t.Context(),
		&controlv1.SendRequest{
			Namespace: s.namespace, Target: &controlv1.Target{Everyone: true},
			Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(bed.CallLimit),
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: tally.Ignored}},
		})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if r := response.GetReceipt(); r.GetMatched() == 0 || r.GetWritten() != r.GetMatched() {
		t.Errorf("receipt %v, want all written", r)
	}
	<-next
	return took
}

func (s *storm) sampleAll(t *testing.T) {
	t.Helper()
	for i, n := range s.nodes {
		from := time.Now()
		admitted := n.Sum(t, "connhub_handshakes_total", `result="accepted"`)
		s.samples[i] = append(s.samples[i], sample{from, time.Now(), admitted})
	}
}

// busiest returns the most clients per second that a hub has admitted over a second or longer.
// excess is how many more it was, between any two samples, than the rate and a burst allow; 0 or
// less is right. A hub counts a client at the end of its handshake, so a machine that delays many
// of them makes the burst larger.
func (s *storm) busiest(rate int, burst time.Duration) (most float64, excess int) {
	excess = -rate
	for _, samples := range s.samples {
		for i, a := range samples {
			for _, b := range samples[i+1:] {
				admitted := b.admitted - a.admitted
				allowed := float64(rate) * (b.to.Sub(a.from) + burst).Seconds()
				excess = max(excess, admitted-int(allowed))
				if between := b.from.Sub(a.to); between >= time.Second {
					most = max(most, float64(admitted)/between.Seconds())
				}
			}
		}
	}
	return most, excess
}

func (s *storm) check(t *testing.T, meter *testkit.Meter, rate int, news *exileNews) {
	t.Helper()
	slices.Sort(s.before)
	slices.Sort(s.during)
	most, excess := s.busiest(rate, meter.Limit(time.Second))
	t.Logf("%d clients were back after %v; %d handshakes were refused, %d unanswered; a hub "+
		"admitted at most %.0f a second, its rate is %d", news.Clients, news.Took, news.Refusals,
		news.Failures, most, rate)
	before, during := percentile(s.before, 50), percentile(s.during, 50)
	t.Logf("a message to the others took %v (median), %v meanwhile: %.2f times; p99 %v and %v",
		before, during, float64(during)/float64(before), percentile(s.before, 99),
		percentile(s.during, 99))
	if limit := meter.Limit(backLimit); news.Took > limit {
		t.Errorf("the clients were back after %v, want %v", news.Took, limit)
	}
	if excess > 0 {
		t.Errorf("a hub admitted %d clients more than its rate", excess)
	}
	if limit := slowerLoop*before + sendHandovers*meter.Pause(); during > limit {
		t.Errorf("a message to the others took %v, want at most %v", during, limit)
	}
}

const (
	// hungAfter is the time after which sends must name a hub that hangs, and hungSlower how much
	// slower they may be than before.
	hungAfter, hungSlower = time.Second, 1.2
	// hungForgotten is the least time after which its peers forget it: then sends need not name it.
	hungForgotten = 15 * time.Second
	// hungEvery is the time between two sends.
	hungEvery = 20 * time.Millisecond
	calmSends = 250
)

// TestSendsReportAHubThatHangs at once, and are as quick as before.
func TestSendsReportAHubThatHangs(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	crowd := c.newCrowd(t)
	for i := range 60 {
		crowd.Add("default", fmt.Sprint("user-", i), "", "all")
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	c.awaitCalm(t)
	hung := c.nodes[2]
	before := c.sendToAll(t, calmSends, func(*controlv1.Receipt) {})
	meter := testkit.NewMeter(c.nodes[0].PID(), c.nodes[1].PID())
	defer meter.Stop()
	hung.Signal(t, syscall.SIGSTOP)
	stopped := time.Now()
	defer hung.Continue()
	c.sendToAll(t, int(hungAfter/hungEvery), func(*controlv1.Receipt) {})
	named, strange := 0, 0
	forgotten := time.Duration(0)
	while := c.sendToAll(t, int(time.Duration(bed.Either(4, 29))*time.Second/hungEvery),
		func(r *controlv1.Receipt) {
			switch unknown := r.GetUnreachableHubs(); {
			case len(unknown) == 0 && forgotten == 0:
				forgotten = time.Since(stopped)
			case slices.Equal(unknown, []string{hung.Hub}) && forgotten == 0:
				named++
			case len(unknown) > 0:
				strange++
			}
		})
	hung.Continue()
	slices.Sort(before)
	slices.Sort(while)
	calm, slow := percentile(before, 50), percentile(while, 50)
	t.Logf("%d sends while a hub hangs: %v (median), %v before: %.2f times; p99 %v and %v; the "+
		"first %d named it; it was forgotten after %v (0s: never)", len(while), slow, calm,
		float64(slow)/float64(calm), percentile(while, 99), percentile(before, 99), named,
		forgotten)
	if strange > 0 || forgotten > 0 && forgotten < hungForgotten {
		t.Errorf("%d sends name a hub that was forgotten after %v, or others", strange, forgotten)
	}
	limit := time.Duration(hungSlower*float64(calm)) + sendHandovers*meter.Pause()
	if slow > limit {
		t.Errorf("sends took %v while a hub hangs, want at most %v", slow, limit)
	}
	c.awaitCalm(t)
	c.checkInvariants(t)
}

// sendToAll sends to clients of all hubs through the first, and returns how long each send took.
func (c *cluster) sendToAll(
	t *testing.T, count int, judge func(*controlv1.Receipt),
) (took []time.Duration) {
	t.Helper()
	delivery := controlv1.NewDeliveryServiceClient(c.nodes[0].backend)
	ticker := time.NewTicker(hungEvery)
	defer ticker.Stop()
	for range count {
		<-ticker.C
		began := time.Now()
		response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
			Target: &controlv1.Target{Groups: []string{"all"}},
			Wait:   controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(bed.CallLimit),
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: tally.Ignored}},
		})
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		judge(response.GetReceipt())
	}
	return took
}
