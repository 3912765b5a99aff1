package process

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/coder/websocket"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// cut ends the connections through the door, and turns new ones away.
func (d *door) cut() {
	d.open("")
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// requireAnother waits until the process is a hub with another id, which takes clients and sends.
func requireAnother(t *testing.T, p *bed.Process, than, reason string) {
	t.Helper()
	testkit.Eventually(t, "the hub is ready again", func() bool {
		return strings.Count(p.Log.String(), `"msg":"ready"`) == 2
	})
	bob := testkit.DialClient(t, p.Clients, "user=bob")
	_ = bed.Program.MustRun(t, "send", "--addr="+p.Control, "--user=bob", "welcome")
	if got := testkit.NextMessage(t, bob); got != "welcome" {
		t.Errorf("got %q", got)
	}
	if metrics := testkit.Get(t, "http://"+p.Ops+"/metrics", nil).Body; !strings.Contains(
		metrics, `connhub_restarts_total{reason="`+reason+`"} 1`,
	) {
		t.Error("the metrics don't count it")
	}
	if list := bed.Program.MustRun(t, "hubs", "--json", "--addr="+p.Control); strings.Contains(list,
		than) {
		t.Errorf("the old one is still listed: %s", list)
	}
}

// audience are the clients of a hub, with a count of their messages. Each message is a number: the
// last number plus 1.
type audience struct {
	reading sync.WaitGroup

	mu    sync.Mutex
	got   []int   // by client: the last number
	holes []error // messages that are not the next number
	ends  []error // by client
}

func (a *audience) enter(t *testing.T, address string, clients int) {
	t.Helper()
	a.got, a.ends = make([]int, clients), make([]error, clients)
	for i := range clients {
		client := testkit.DialClient(t, address, fmt.Sprintf("user=u%d", i))
		a.reading.Go(func() {
			for {
				_, b, err := client.Read(t.Context())
				a.mu.Lock()
				var number int
				switch _, scanned := fmt.Sscan(string(b), &number); {
				case err != nil:
					a.ends[i] = err
				case scanned != nil || number != a.got[i]+1:
					a.holes = append(
						a.holes, fmt.Errorf("client %d got %q after %d", i, b, a.got[i]),
					)
				default:
					a.got[i] = number
				}
				a.mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
}

// sent is the fate of a message.
type sent struct {
	matched     int
	unreachable string
}

// TestAForgottenHubClosesItsClientsBeforeItGoesOn stops one of three hubs until the others have
// forgotten it, while messages are sent. No client that missed a message may stay attached.
func TestAForgottenHubClosesItsClientsBeforeItGoesOn(t *testing.T) {
	t.Parallel() // it waits most of the time
	const clients = 10
	address := etcdtest.StartEtcd(t)
	var hubs []*bed.Process
	var doors []*door // before each hub: its peers come through it
	for range 3 {
		d := newDoor(t)
		p := bed.StartBound(t, bed.MemberArgs(address, "--advertise-control="+d.address())...)
		d.open(p.Control)
		_ = testkit.WaitForLog(t, p.Log, "ready")
		hubs, doors = append(hubs, p), append(doors, d)
	}
	for _, p := range hubs {
		awaitHubs(t, p, 3)
	}
	stopped := hubs[1]
	id, _ := testkit.WaitForLog(t, stopped.Log, "ready")["hub"].(string)
	var a audience
	a.enter(t, stopped.Clients, clients)

	delivery := controlv1.NewDeliveryServiceClient(testkit.DialControl(t, hubs[0].Control))
	var all []sent
	send := func() sent {
		answer, err := delivery.Send(t.Context(), &controlv1.SendRequest{
			Target: &controlv1.Target{Everyone: true}, Message: &controlv1.Message{
				Payload: &controlv1.Message_Text{Text: fmt.Sprint(len(all) + 1)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := answer.GetReceipt()
		all = append(all, sent{int(r.GetMatched()), strings.Join(r.GetUnreachableHubs(), ",")})
		return all[len(all)-1]
	}
	testkit.Eventually(t, "a send reaches all", func() bool { return send().matched == clients })
	stopped.Signal(t, syscall.SIGSTOP)
	_ = send() // goes to its socket, and waits there
	for _, d := range doors {
		d.cut() // the others notice at once, the hub does not
	}
	doors[0].open(hubs[0].Control)
	doors[2].open(hubs[2].Control)
	testkit.Eventually(t, "the others have forgotten it", func() bool {
		r := send()
		return r.unreachable == ""
	})
	if gone := testkit.WaitForLog(t, hubs[0].Log, "hub is gone"); gone["hub"] != id {
		t.Fatalf("receipts don't name the hub, and %v is gone", gone)
	}
	_ = send() // misses them, and does not say so
	doors[1].open(stopped.Control)
	backend := controlv1.NewDeliveryServiceClient(testkit.DialControl(t, stopped.Control))
	waiting := make(chan error, 1)
	go func() { // waits at its control port
		_, err := backend.Send(t.Context(), &controlv1.SendRequest{
			Target:  &controlv1.Target{Everyone: true},
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: "0"}},
		})
		waiting <- err
	}()
	stopped.Signal(t, syscall.SIGCONT)

	testkit.Eventually(t, "no client that missed a message is attached", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return !slices.Contains(a.ends, nil)
	})
	a.reading.Wait()
	for i, err := range a.ends {
		if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
			t.Errorf("client %d, which missed messages, ends with %v", i, err)
		}
		for n := a.got[i]; n < len(all); n++ {
			if all[n].matched == clients {
				t.Errorf("client %d did not get %d, whose receipt counts it: %+v", i, n+1, all[n])
			}
		}
	}
	for _, hole := range a.holes {
		t.Error(hole)
	}
	// or it was served by the next hub
	if err := <-waiting; err != nil && status.Code(err) != codes.Unavailable {
		t.Errorf("a call that waited: %v", err)
	}
	if line := testkit.WaitForLog(
		t, stopped.Log, "this hub may have been forgotten; its clients are closed",
	); line["level"] != "WARN" {
		t.Errorf("the log says %v", line)
	}
	requireAnother(t, stopped, id, "forgotten")
	for _, p := range hubs {
		awaitHubs(t, p, 3)
	}
}
