package process

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// crowd are clients that wait for their close.
type crowd struct {
	reading sync.WaitGroup

	mu     sync.Mutex
	closed []time.Time // guarded by mu
	wrong  []error     // guarded by mu; other ends than 1001
}

// dialCrowd connects clients to a hub. Each waits for its close.
func dialCrowd(t *testing.T, address string, count int) *crowd {
	t.Helper()
	all := &crowd{}
	var dialling sync.WaitGroup
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	for range count {
		dialling.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			c, err := bed.DialClient(t.Context(), net.Dialer{}, address, "/ws", "")
			if err != nil {
				t.Error(err)
				return
			}
			all.reading.Go(func() {
				defer func() { _ = c.Conn.Close() }()
				all.noteEnd(c.Read(func([]byte) {}))
			})
		})
	}
	dialling.Wait()
	return all
}

func (c *crowd) noteEnd(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closed, ok := errors.AsType[bed.ClosedError](err); !ok || closed.Code != 1001 {
		c.wrong = append(c.wrong, err)
	}
	c.closed = append(c.closed, time.Now())
}

// requireSpread proves that no close came before its turn: 1001s, spread evenly over a period that
// began at start or later.
func (c *crowd) requireSpread(t *testing.T, start time.Time, period time.Duration) {
	t.Helper()
	c.reading.Wait()
	for _, err := range c.wrong {
		t.Errorf("a client sees %v, want 1001", err)
	}
	slices.SortFunc(c.closed, time.Time.Compare)
	const step = 20 * time.Millisecond // closes share wake-ups
	for i, at := range c.closed {
		turn := period * time.Duration(i) / time.Duration(len(c.closed))
		if after := at.Sub(start); after < turn-step {
			t.Fatalf("close %d of %d came after %v, want %v or later", i, len(c.closed), after,
				turn)
		}
	}
}

func TestSIGTERMServesOnForTheDelayAndThenSpreadsTheCloses(t *testing.T) {
	t.Parallel()
	const clients, delay, period = 500, 2 * time.Second, 3 * time.Second
	p := bed.StartAlone(t, "--drain-delay="+delay.String(), "--drain-period="+period.String())
	all := dialCrowd(t, p.Clients, clients)

	meter := p.NewMeter()
	defer meter.Stop()
	began := time.Now()
	p.Signal(t, syscall.SIGTERM)
	_ = testkit.WaitForLog(t, p.Log, "drain begins")
	if code, body := p.Ask(t, "/readyz"); code != 503 || body != "draining\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	late := testkit.DialClient(t, p.Clients, "user=ann")
	requireServing(t, p, late, "during the delay")
	_ = late.Close(websocket.StatusNormalClosure, "")

	_ = testkit.WaitForLog(t, p.Log, "drain closes clients")
	if took := time.Since(began); took < delay {
		t.Errorf("clients are closed after %v, want %v", took, delay)
	}
	testkit.Eventually(t, "new clients are refused", func() bool {
		conn, _, err := websocket.Dial(t.Context(), "ws://"+p.Clients+"/ws", nil)
		if err == nil {
			_ = conn.CloseNow()
		}
		return err != nil
	})
	all.requireSpread(t, began.Add(delay), period)
	if code := p.ExitCodeWithin(t, meter, delay+period+10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, p.Log)
	}
	line := testkit.WaitForLog(t, p.Log, "drained")
	if line["closed"] != float64(clients) || line["left_open"] != 0.0 {
		t.Errorf("the log says %v", line)
	}
}

func TestASecondSignalEndsADrainAtOnce(t *testing.T) {
	t.Parallel()
	for phase, flags := range map[string][]string{
		"drain begins":         {"--drain-delay=1h", "--drain-period=0s"},
		"drain closes clients": {"--drain-delay=0s", "--drain-period=1h"},
	} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			p := bed.StartAlone(t, flags...)
			for range 2 { // the first is closed at once
				testkit.DialClient(t, p.Clients, "")
			}
			p.Signal(t, syscall.SIGTERM)
			_ = testkit.WaitForLog(t, p.Log, phase)
			<-time.After(secondSignalAfter) // earlier it is no second one
			p.Signal(t, syscall.SIGTERM)
			if code := p.ExitCode(t, time.Second); code != terminal.ExitError {
				t.Errorf("exit %d", code)
			}
		})
	}
}

// drainBy drains a hub through the control port at an address, and returns all reports.
func drainBy(t *testing.T, address, id string) (reports []*controlv1.DrainHubResponse, err error) {
	t.Helper()
	stream, err := controlv1.NewHubServiceClient(testkit.DialControl(t, address)).DrainHub(
		t.Context(), &controlv1.DrainHubRequest{HubId: id})
	for err == nil {
		var r *controlv1.DrainHubResponse
		if r, err = stream.Recv(); err == nil {
			reports = append(reports, r)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return reports, err
}

func TestAHubIsDrainedThroughAnotherHubAndWaitsForSIGTERM(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartEtcd(t)
	const clients, period = 50, 2 * time.Second
	p := bed.StartReady(t, bed.MemberArgs(etcd, "--drain-delay=100ms",
		"--drain-period="+period.String())...)
	other := bed.StartReady(t, bed.MemberArgs(etcd)...)
	all := dialCrowd(t, p.Clients, clients)

	// A call that is cut leaves the drain running.
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	stream, err := controlv1.NewHubServiceClient(testkit.DialControl(t, other.Control)).DrainHub(
		ctx, &controlv1.DrainHubRequest{HubId: p.Hub})
	if err != nil {
		t.Fatal(err)
	}
	first, err := stream.Recv()
	if err != nil || first.GetConnections() != clients ||
		first.GetPhase() != controlv1.DrainPhase_DRAIN_PHASE_DELAY ||
		first.GetTimeLeft().AsDuration() < period {
		t.Fatalf("the first report: %v, %v", first, err)
	}
	cancel()
	_ = testkit.WaitForLog(t, p.Log, "drain closes clients")

	// The hub itself follows its drain too, although it refuses calls.
	for name, address := range map[string]string{"other": other.Control, "same": p.Control} {
		reports, err := drainBy(t, address, p.Hub)
		if err != nil || len(reports) == 0 {
			t.Fatalf("by the %s hub: %v, %v", name, reports, err)
		}
		last := reports[len(reports)-1]
		if last.GetPhase() != controlv1.DrainPhase_DRAIN_PHASE_DRAINED ||
			last.GetConnections() != 0 || last.GetClosed() != clients ||
			last.GetTimeLeft().AsDuration() != 0 {
			t.Errorf("by the %s hub, the last report: %v", name, last)
		}
	}
	all.requireSpread(t, began, period)
	if code, body := p.Ask(t, "/readyz"); code != 503 || body != "drained\n" {
		t.Errorf("/readyz of the drained hub: %d %q", code, body)
	}
	if _, err := controlv1.NewHubServiceClient(testkit.DialControl(t, p.Control)).ListHubs(
		t.Context(), &controlv1.ListHubsRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("a call of the drained hub: %v, want UNAVAILABLE", err)
	}
	if _, err := drainBy(t, other.Control, "no-hub"); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown hub: %v, want NOT_FOUND", err)
	}
	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, p.Log)
	}
}

func TestPeersReachTheClientsThatADrainHasLeft(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartEtcd(t)
	p := bed.StartReady(t, bed.MemberArgs(etcd, "--drain-period=1h")...)
	other := bed.StartReady(t, bed.MemberArgs(etcd)...)
	clients := map[string]*websocket.Conn{}
	for _, user := range []string{"ann", "bob", "cy"} {
		clients[user] = testkit.DialClient(t, p.Clients, "user="+user)
	}
	p.Signal(t, syscall.SIGTERM)
	testkit.Eventually(t, "the first client is closed, and the others have the hour", func() bool {
		return strings.Contains(p.Log.String(), `"cause":"shutdown"`)
	})
	answer, err := controlv1.NewDeliveryServiceClient(testkit.DialControl(t, other.Control)).Send(
		t.Context(), &controlv1.SendRequest{
			Target: &controlv1.Target{Users: []string{"ann", "bob", "cy"}},
			Message: &controlv1.Message{
				Payload: &controlv1.Message_Text{Text: "still here"},
			},
			Detail: controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS,
		})
	if err != nil || answer.GetReceipt().GetMatched() != 2 ||
		len(answer.GetReceipt().GetUnmatched().GetUsers()) != 1 {
		t.Fatalf("a send through the other hub: %v, %v", answer, err)
	}
	delete(clients, answer.GetReceipt().GetUnmatched().GetUsers()[0])
	for user, client := range clients {
		if got := testkit.NextMessage(t, client); got != "still here" {
			t.Errorf("%s got %q", user, got)
		}
	}
	p.Kill(t) // the drain has an hour
}

func TestACallFollowsADrainThatSIGTERMHasBegun(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.StartEtcd(t)
	p := bed.StartReady(t, bed.MemberArgs(etcd, "--drain-period=2s")...)
	other := bed.StartReady(t, bed.MemberArgs(etcd)...)
	all := dialCrowd(t, p.Clients, 20)
	p.Signal(t, syscall.SIGTERM)
	_ = testkit.WaitForLog(t, p.Log, "drain closes clients")
	// The hub exits when it is drained: its farewell is the last that the other hub hears.
	reports, err := drainBy(t, other.Control, p.Hub)
	if err != nil || reports[len(reports)-1].GetPhase() !=
		controlv1.DrainPhase_DRAIN_PHASE_DRAINED {
		t.Errorf("%v, %v", reports, err)
	}
	all.reading.Wait()
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestCtrlCLeavesADrainRunningAndSaysSo(t *testing.T) {
	t.Parallel()
	p := bed.StartAlone(t, "--drain-delay=1h")
	var stdout, stderr testkit.LockedBuffer
	command := bed.Command(t, "hubs", "drain", p.Hub, "--addr="+p.Control)
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the first report", func() bool { return stdout.String() != "" })
	if err := command.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	if code := command.ProcessState.ExitCode(); code != terminal.ExitError ||
		!strings.Contains(stderr.String(), "interrupted: hub "+p.Hub+" goes on draining. "+
			"To follow it: connhub hubs drain "+p.Hub) {
		t.Errorf("exit %d, %s", code, &stderr)
	}
	if code, body := p.Ask(t, "/readyz"); code != 503 || body != "draining\n" {
		t.Errorf("/readyz: %d %q, want a drain that goes on", code, body)
	}
	p.Kill(t) // the drain has an hour
}
