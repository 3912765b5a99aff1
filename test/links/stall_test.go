package links

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	// stallLimit is each limit of time that the hubs have for their clients, on a quiet machine.
	// stallBeyond is the further time for which the hubs are stopped.
	stallLimit, stallBeyond = 5 * time.Second, 2 * time.Second
	// stallCrowd is the number of clients of each hub. At least stallPinged of all have an open
	// ping when the hubs stop.
	stallCrowd, stallPinged = 100, 100
	// stallOthers is the number of further connections of each hub in the end: a cut message, two
	// cut handshakes, and a resumed connection.
	stallOthers = 4
	// afterStop is the text with which clients have come through.
	afterStop = "after the stop"
)

// stalled has hubs that are to be stopped, and the work of their clients meanwhile. The clients
// begin work that has a limit, the hubs are stopped, and the clients end the work.
type stalled struct {
	limit   time.Duration
	hubs    []*bed.Process // one for each of doors
	hold    atomic.Bool    // clients keep their pongs back
	held    time.Time      // when hold was set: the work with a limit begins later
	pinged  chan struct{}  // tells of clients that hold a pong
	stopped chan struct{}  // closed when the hubs are, or when they are given up
	givenUp atomic.Bool    // set before stopped is closed: nothing counts
	clients sync.WaitGroup

	mu     sync.Mutex
	wentOn time.Time // when the hubs ran again; zero: they have not yet
	faults []string  // of clients
}

// fault records a failure that a client must not see. It counts unless the hubs are given up. who
// names the client and its door.
func (s *stalled) fault(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	when := "before the hubs went on"
	if !s.wentOn.IsZero() {
		when = fmt.Sprintf("%v after the hubs went on",
			time.Since(s.wentOn).Round(time.Millisecond))
	}
	s.faults = append(s.faults,
		fmt.Sprintf("%s, limit %v, %s: %s", who, s.limit, when, fmt.Sprintf(format, args...)))
}

// resumeHubs lets the stopped hubs go on.
func (s *stalled) resumeHubs(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.hubs {
		p.Signal(t, syscall.SIGCONT)
	}
	s.wentOn = time.Now()
}

// reportFaults fails the test if clients have seen faults, also if the test has ended early.
func (s *stalled) reportFaults(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fault := range s.faults {
		if !s.givenUp.Load() {
			t.Error(fault)
		}
	}
}

// isLate reports whether this machine has let so much of the limit go by, before the hubs are
// stopped, that the limit itself may be the cause of the clients' faults.
func (s *stalled) isLate() bool { return time.Since(s.held) > s.limit/2 }

// A hub that was stopped finds that each limit of time is over. Its clients have kept all limits,
// as their sockets show, and stay: the clients that answered a ping, ended a message, ended a
// handshake, or returned for their connection.
func TestClientsOutliveAStopOfTheirHub(t *testing.T) {
	t.Parallel()
	limit := limitForDials(t)
	for !outliveStop(t, limit) {
		limit *= 2
		t.Logf("the machine was too busy; the limit is %v now", limit)
	}
}

// outliveStop stops hubs for more than a limit, which is each of their limits. It returns false if
// the clients needed so long for the steps before the stop that the test shows nothing.
func outliveStop(t *testing.T, limit time.Duration) bool {
	t.Helper()
	s := &stalled{
		limit:  limit,
		pinged: make(chan struct{}, len(doors)*stallCrowd), stopped: make(chan struct{}),
	}
	for _, d := range doors {
		s.hubs = append(s.hubs, d.open(t, "--ping-interval", "2s",
			"--pong-timeout", limit.String(), "--handshake-timeout", limit.String(),
			"--message-timeout", limit.String(), "--resume-window", limit.String()))
	}
	defer s.reportFaults(t)
	for i, d := range doors {
		for range stallCrowd {
			s.stay(d.name+": one of the crowd", d.dial(t, s.hubs[i], "/ws", ""))
		}
	}
	if !s.beginWork(t) {
		s.giveUp(t)
		return false
	}
	<-time.After(limit + stallBeyond) // of hubs that do not run: there is nothing else to wait for
	s.resumeHubs(t)
	for i, p := range s.hubs {
		checkNobodyWasClosed(t, doors[i].name, p)
	}
	s.clients.Wait()
	return true
}

// beginWork lets the clients begin work, and stops the hubs. It reports false if that took too
// long.
func (s *stalled) beginWork(t *testing.T) bool {
	t.Helper()
	s.held = time.Now()
	s.hold.Store(true)
	for range stallPinged {
		<-s.pinged
	}
	for i, d := range doors {
		if s.isLate() {
			return false
		}
		s.begin(t, d, s.hubs[i])
	}
	for _, p := range s.hubs {
		p.Signal(t, syscall.SIGSTOP)
	}
	if s.isLate() {
		return false
	}
	close(s.stopped)
	return true
}

// giveUp ends the hubs and their clients.
func (s *stalled) giveUp(t *testing.T) {
	t.Helper()
	s.givenUp.Store(true)
	close(s.stopped)
	for _, p := range s.hubs {
		p.Kill(t)
	}
	s.clients.Wait()
}

// checkNobodyWasClosed checks that all clients of a hub are there, tells them so, and checks that
// no connection was closed.
func checkNobodyWasClosed(t *testing.T, door string, p *bed.Process) {
	t.Helper()
	waitForLinks(t, door, p, stallCrowd+stallOthers)
	delivery := controlv1.NewDeliveryServiceClient(bed.DialControl(t, p.Control))
	_, err := delivery.Send(t.Context(), &controlv1.SendRequest{
		Target:  &controlv1.Target{Everyone: true},
		Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: afterStop}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []string{"ping_timeout", "slow_message", "resume_expired", "lost"} {
		if n := p.Sum(
			t, "connhub_connections_closed_total", fmt.Sprintf("cause=%q", cause),
		); n != 0 {
			t.Errorf("%s: %d connections were closed for %s", door, n, cause)
		}
	}
}

// limitForDials returns stallLimit. It returns more on a machine so busy that clients would break
// stallLimit before the hubs are stopped: the clients' work then takes a tenth of the time that a
// crowd takes to connect under TLS.
func limitForDials(t *testing.T) time.Duration {
	t.Helper()
	d := doors[1]
	p := d.open(t)
	began := time.Now()
	for range stallCrowd {
		_ = d.dial(t, p, "/ws", "").Conn.Close()
	}
	return max(stallLimit, 2*time.Since(began))
}

// waitForLinks waits until a hub has so many connections with a link.
func waitForLinks(t *testing.T, door string, p *bed.Process, connections int) {
	t.Helper()
	var links int
	if !testkit.Holds(t, func() bool {
		links = p.Sum(t, "connhub_links")
		return links == connections
	}) {
		t.Fatalf("%s: the hub has %d links; want %d", door, links, connections)
	}
}

// dial connects a client until the test ends.
func (d door) dial(t *testing.T, p *bed.Process, path, protocol string) *bed.Client {
	t.Helper()
	c, err := bed.NewClient(d.connect(t, p), p.Clients, path, protocol)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// connect opens a connection until the test ends, before its handshake. It uses TLS if the door has
// it.
func (d door) connect(t *testing.T, p *bed.Process) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.Clients)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if d.secure {
		return tls.Client(conn, clientTLS)
	}
	return conn
}

// stay lets a client answer pings until it has the last word. The client holds a pong back until
// the hubs are stopped.
func (s *stalled) stay(who string, c *bed.Client) {
	s.clients.Go(func() {
		held := false
		for {
			opcode, payload, err := c.ReadFrame(nil)
			switch {
			case err != nil:
				s.fault(who, "lost: %v", err)
				return
			case opcode == bed.OpClose:
				s.fault(who, "closed: %q", payload)
				return
			case opcode == bed.OpPing:
				if s.hold.Load() && !held {
					held = true
					s.pinged <- struct{}{}
					<-s.stopped
				}
				if _, err := c.Conn.Write(bed.MaskedFrame(bed.OpPong, payload)); err != nil {
					s.fault(who, "pong: %v", err)
					return
				}
			case bytes.Contains(payload, []byte(afterStop)):
				return
			}
		}
	})
}

// begin lets clients begin the work that they end while the hub is stopped.
func (s *stalled) begin(t *testing.T, d door, p *bed.Process) {
	t.Helper()
	back := d.dial(t, p, "/client/hubs/default?user=back", bed.Reliable)
	_, greeting, err := back.ReadFrame(nil)
	var hello struct{ ConnectionID, ReconnectionToken string }
	if err := json.Unmarshal(greeting, &hello); err != nil {
		t.Fatalf("%v: %s", err, greeting)
	}
	bed.Report(t, err)

	talker := d.dial(t, p, "/ws", "")
	message := bed.MaskedFrame(bed.OpText, []byte("a message in two halves"))
	half, rest := message[:10], message[10:]
	_, err = talker.Conn.Write(half)
	bed.Report(t, err)

	knocking := d.connect(t, p)
	const firstPart = 40
	request := bed.UpgradeRequest(p.Clients, "/ws", "")
	_, err = io.WriteString(knocking, request[:firstPart])
	bed.Report(t, err)

	mute := d.connect(t, p)
	bed.Report(t, reset(back.Conn))
	testkit.Eventually(t, "all but the returning client have a link", func() bool {
		return p.Sum(t, "connhub_links") == stallCrowd+1 || s.isLate() // the talker is one
	})

	s.clients.Go(func() {
		<-s.stopped
		if _, err := talker.Conn.Write(rest); err != nil {
			s.fault(d.name+": the talker", "rest of a message: %v", err)
		}
		s.stay(d.name+": the talker", talker)
	})
	s.come(d.name+": a handshake that had begun", p, "/ws", "", func() net.Conn {
		return &begun{knocking, firstPart}
	})
	s.come(d.name+": a mute client", p, "/ws", "", func() net.Conn { return mute })
	path := "/client/hubs/default?" + bed.ResumeQuery(hello.ConnectionID, hello.ReconnectionToken)
	s.come(d.name+": a client that came back", p, path, bed.Reliable, func() net.Conn {
		return d.connect(t, p)
	})
}

// begun is a connection that has already sent the first bytes of its first write.
type begun struct {
	net.Conn
	sent int
}

func (b *begun) Write(p []byte) (int, error) {
	sent := b.sent
	b.sent = 0
	n, err := b.Conn.Write(p[sent:])
	return n + sent, err
}

// come has a client shake hands while the hub is stopped, and stay.
func (s *stalled) come(
	who string, p *bed.Process, path, protocol string, connect func() net.Conn,
) {
	s.clients.Go(func() {
		<-s.stopped
		if s.givenUp.Load() {
			return
		}
		c, err := bed.NewClient(connect(), p.Clients, path, protocol)
		if err != nil {
			s.fault(who, "handshake: %v", err)
			return
		}
		s.stay(who, c)
	})
}
