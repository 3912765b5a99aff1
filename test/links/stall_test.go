package links

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
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
	// reliable is the subprotocol whose connections can be resumed.
	reliable = "json.reliable.webpubsub.azure.v1"
)

// stalled has hubs that are to be stopped, and the work of their clients meanwhile.
type stalled struct {
	hold    atomic.Bool   // clients keep their pongs back
	pinged  chan struct{} // tells of clients that do
	stopped chan struct{} // closed when the hubs are
	clients sync.WaitGroup
}

// A hub that was stopped finds that each limit of time is over. Its clients have kept all limits,
// as their sockets show, and stay: the clients that answered a ping, ended a message, ended a
// handshake, or returned for their connection.
func TestClientsOutliveAStopOfTheirHub(t *testing.T) {
	t.Parallel()
	limit := limitForDials(t)
	s := &stalled{pinged: make(chan struct{}, len(doors)*stallCrowd), stopped: make(chan struct{})}
	hubs := make([]*bed.Process, len(doors))
	for i, d := range doors {
		hubs[i] = d.open(t, "--ping-interval", "2s",
			"--pong-timeout", limit.String(), "--handshake-timeout", limit.String(),
			"--message-timeout", limit.String(), "--resume-window", limit.String())
	}
	for i, d := range doors {
		for range stallCrowd {
			s.stay(t, d.dial(t, hubs[i], "/ws", ""))
		}
	}
	s.hold.Store(true)
	for range stallPinged {
		<-s.pinged
	}
	for i, d := range doors {
		s.begin(t, d, hubs[i])
	}
	for _, p := range hubs {
		p.Signal(t, syscall.SIGSTOP)
	}
	close(s.stopped)
	<-time.After(limit + stallBeyond) // of hubs that do not run: there is nothing else to wait for
	for _, p := range hubs {
		p.Signal(t, syscall.SIGCONT)
	}
	for i, p := range hubs {
		waitForLinks(t, p, stallCrowd+stallOthers)
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
				t.Errorf("%s: %d connections were closed for %s", doors[i].name, n, cause)
			}
		}
	}
	s.clients.Wait()
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
func waitForLinks(t *testing.T, p *bed.Process, connections int) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("the hub has %d links", connections), func() bool {
		return p.Sum(t, "connhub_links") == connections
	})
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
func (s *stalled) stay(t *testing.T, c *bed.Client) {
	s.clients.Go(func() {
		held := false
		for {
			opcode, payload, err := c.ReadFrame(nil)
			switch {
			case err != nil:
				t.Errorf("a client was lost: %v", err)
				return
			case opcode == bed.OpClose:
				t.Errorf("a client was closed: %q", payload)
				return
			case opcode == bed.OpPing:
				if s.hold.Load() && !held {
					held = true
					s.pinged <- struct{}{}
					<-s.stopped
				}
				if _, err := c.Conn.Write(bed.MaskedFrame(bed.OpPong, payload)); err != nil {
					t.Errorf("pong: %v", err)
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
	back := d.dial(t, p, "/client/hubs/default?user=back", reliable)
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
	waitForLinks(t, p, stallCrowd+1) // the talker

	s.clients.Go(func() {
		<-s.stopped
		if _, err := talker.Conn.Write(rest); err != nil {
			t.Errorf("rest of a message: %v", err)
		}
		s.stay(t, talker)
	})
	s.come(t, p, "/ws", "", func() net.Conn { return &begun{knocking, firstPart} })
	s.come(t, p, "/ws", "", func() net.Conn { return mute })
	query := url.Values{
		"awps_connection_id":      {hello.ConnectionID},
		"awps_reconnection_token": {hello.ReconnectionToken},
	}
	s.come(t, p, "/client/hubs/default?"+query.Encode(), reliable, func() net.Conn {
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
	t *testing.T, p *bed.Process, path, protocol string, connect func() net.Conn,
) {
	s.clients.Go(func() {
		<-s.stopped
		c, err := bed.NewClient(connect(), p.Clients, path, protocol)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		s.stay(t, c)
	})
}
