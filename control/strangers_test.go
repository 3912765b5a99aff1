package control

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// A stranger may send the messages that an open method takes, and at most strangerBytes in all.
func TestAStrangerThatBeginsLargeMessagesIsRefusedAndThenCutOff(t *testing.T) {
	f := newFixture(t)
	c := f.rawCaller(t)
	stream, err := c.begin(healthv1.Health_Check_FullMethodName, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.announce(stream, form.MaxRequestBytes-1, 1<<10); err != nil {
		t.Fatal(err)
	}
	if code := c.status(t, stream); code != "8" {
		t.Errorf("a message of megabytes to an open method: %s, want RESOURCE_EXHAUSTED", code)
	}
	if err := floodChecks(c); err == nil {
		t.Error(errWritesGoOn)
	}
	c.over()
	if n := f.metric(t, "connhub_grpc_strangers_closed_total"); n != 1 {
		t.Errorf("%d connections closed", n)
	}
	if log := f.log.String(); strings.Count(log, "\n") != 1 || !strings.Contains(log, `"bytes":1`) {
		t.Errorf("logged %q", log)
	}
	f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
}

// floodChecks begins 150 calls with all that a window takes. nil: it got through.
func floodChecks(c *rawCaller) error {
	for range 150 {
		stream, err := c.begin(healthv1.Health_Check_FullMethodName, "")
		if err != nil {
			return err
		}
		if err := c.announce(stream, form.MaxRequestBytes-1, 60<<10); err != nil {
			return err
		}
	}
	return nil
}

func TestAProbeThatDoesNotEndItsRequestIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.rawCaller(t)
		bounds := openMethods[healthv1.Health_Check_FullMethodName]
		start := time.Now()
		var streams []uint32
		for range bounds.calls + 1 {
			stream, err := c.begin(healthv1.Health_Check_FullMethodName, "")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.announce(stream, 100, 99); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			streams = append(streams, stream)
		}
		if code := c.status(t, streams[bounds.calls]); code != "8" {
			t.Errorf("one call more than is allowed: %s, want RESOURCE_EXHAUSTED", code)
		}
		if code := c.status(t, streams[bounds.calls-1]); code != "4" {
			t.Errorf("a request that does not end: %s, want DEADLINE_EXCEEDED", code)
		}
		if took := time.Since(start); took != bounds.time {
			t.Errorf("ended after %v, want %v", took, bounds.time)
		}
		c.over()
		if took := time.Since(start); took != strangerTime {
			t.Errorf("the connection was closed after %v, want %v", took, strangerTime)
		}
	})
}

func TestAConnectionThatHasShownACredentialStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.rawCaller(t)
		stream, err := c.begin(
			controlv1.HubService_ListHubs_FullMethodName, "Bearer "+backendSecret,
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.announce(stream, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := c.framer.WriteData(stream, true, nil); err != nil {
			t.Fatal(err)
		}
		if code := c.status(t, stream); code != "0" {
			t.Fatalf("ListHubs: %s", code)
		}
		time.Sleep(2 * strangerTime)
		if n := f.metric(t, "connhub_grpc_strangers"); n != 0 {
			t.Errorf("%d strangers", n)
		}
		stream, err = c.begin(healthv1.Health_Check_FullMethodName, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.announce(stream, form.MaxRequestBytes-1, 1); err != nil {
			t.Fatal(err)
		}
		if code := c.status(t, stream); code != "8" { // an open method takes no more for it
			t.Errorf("Check: %s", code)
		}
	})
}

func TestWrongCredentialsMakeNobodyKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.rawCaller(t)
		start := time.Now()
		stream, err := c.begin(
			controlv1.DeliveryService_Send_FullMethodName, "Bearer "+strings.Repeat("x", 40),
		)
		if err != nil {
			t.Fatal(err)
		}
		if code := c.status(t, stream); code != "16" {
			t.Errorf("%s, want UNAUTHENTICATED before the message", code)
		}
		c.over()
		if took := time.Since(start); took != strangerTime {
			t.Errorf("closed after %v", took)
		}
	})
}

// The headers of a call are a stranger's bytes.
func TestACallWithoutAMethodHarmsNobody(t *testing.T) {
	for _, path := range []string{
		"", "/", "//", "Check",
		"/Check", "/ /", "/connhub.peer.v1", "connhub.peer.v1.PeerService/Link", "*",
	} {
		t.Run(path, func(t *testing.T) {
			f := newFixture(t)
			c := f.rawCaller(t)
			stream, err := c.begin(path, "")
			if err != nil {
				t.Fatal(err)
			}
			for frame := range c.frames {
				if frame.stream == stream &&
					(frame.status != "" || frame.kind == http2.FrameRSTStream) || frame.err != nil {
					break
				}
			}
			f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("others go on")})
			// The fixture's end waits for the connection.
		})
	}
}

// Strangers that stay keep out neither backends nor probes, from the same address.
func TestTheOldestStrangerMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		silent := make([]*rawCaller, maxStrangersOfAddress+3)
		for i := range silent {
			if i == maxStrangersOfAddress {
				time.Sleep(strangerPatience)
			}
			silent[i] = f.rawCaller(t)
		}
		// a backend's connection, and maybe a probe's, take more room
		for _, c := range silent[:2] {
			c.over()
		}
		f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
		health := healthv1.NewHealthClient(f.dial(t, ""))
		if _, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
		if n := f.metric(t, "connhub_grpc_strangers"); n > maxStrangersOfAddress {
			t.Errorf("%d strangers", n)
		}
	})
}

// Newcomers, however many, end no handshake that goes on, whatever its address.
func TestNewcomersDoNotEndAHandshakeThatGoesOn(t *testing.T) {
	for name, addresses := range map[string][]string{
		"of one address":  {"192.0.2.1"},
		"of many":         {"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"},
		"of one IPv6 /64": {"2001:db8::1", "2001:db8::2", "2001:db8::3:4", "2001:db8::ffff"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPort(slogTo(&buffer{}), 0)
				backend := &addressedConn{from: "192.0.2.1"}
				in := p.addAccepted(backend)
				var others []*addressedConn
				for range 5 {
					for i := range 2 * maxStrangers {
						conn := &addressedConn{from: addresses[i%len(addresses)]}
						p.addAccepted(conn)
						others = append(others, conn)
					}
					time.Sleep(strangerPatience / 2)
					in.beginWaiting() // the backend has sent the next part
				}
				if backend.closed || !others[0].closed {
					t.Errorf("closed: the backend %v, a silent stranger %v",
						backend.closed, others[0].closed)
				}
				open := 0
				for _, conn := range others {
					if !conn.closed {
						open++
					}
				}
				if most := min(
					maxStrangers, len(p.strangers.ofAddress)*maxStrangersOfAddress,
				); open >= most {
					t.Errorf("%d others are open beside it, of %d", open, most)
				}
				in.becomeKnown(backendIdentity)
				time.Sleep(strangerTime)
				synctest.Wait()
			})
		})
	}
}

// addressedConn is a connection from some address.
type addressedConn struct {
	net.Conn

	from   string
	closed bool
}

func (c *addressedConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1}
}

func (c *addressedConn) Close() error {
	c.closed = true
	return nil
}

func TestStrangersAreFewWhateverTheirAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &buffer{}
		p := newPort(slogTo(log), 0)
		conns := make([]*addressedConn, 2*maxStrangers)
		var last *inbound
		for i := range conns {
			if i%maxStrangers == 0 {
				time.Sleep(strangerPatience)
			}
			conns[i] = &addressedConn{from: fmt.Sprintf("10.0.%d.%d", i/100, i%100)}
			last = p.addAccepted(conns[i])
			if n := p.strangerCount(); n != min(i+1, maxStrangers) {
				t.Fatalf("%d strangers after %d connections", n, i+1)
			}
		}
		for i, c := range conns {
			if c.closed != (i < maxStrangers) {
				t.Errorf("connection %d: closed %v", i, c.closed)
			}
		}
		last.becomeKnown(backendIdentity)
		time.Sleep(strangerTime)
		synctest.Wait()
		if p.strangerCount() != 0 || len(p.strangers.ofAddress) != 0 ||
			conns[len(conns)-1].closed || !conns[len(conns)-2].closed {
			t.Errorf("%d strangers, of %d addresses", p.strangerCount(), len(p.strangers.ofAddress))
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for as many connections", n)
		}
	})
}

func TestEveryOpenMethodIsBoundedAndEveryOtherIsClosed(t *testing.T) {
	f := newFixture(t)
	stranger := f.dial(t, "")
	unary := map[string]bool{}
	for service, info := range f.server.grpc.GetServiceInfo() {
		for _, m := range info.Methods {
			unary["/"+service+"/"+m.Name] = !m.IsClientStream && !m.IsServerStream
		}
	}
	for method, bounds := range openMethods {
		if !unary[method] {
			t.Errorf("%s is open, and not served or a stream: a stranger could hold it", method)
		}
		if bounds.bytes < 1 || bounds.bytes > 8<<10 || bounds.time < 1 ||
			bounds.time > 5*time.Second || bounds.calls < 1 || bounds.calls > 32 {
			t.Errorf("%s is open with bounds %+v", method, bounds)
		}
		if bounds.bytes*bounds.calls > strangerBytes {
			t.Errorf("%s takes more than a stranger may send", method)
		}
	}
	for _, method := range f.server.fullMethods() {
		if isOpen(method) {
			continue
		}
		err := invokeRaw(t.Context(), stranger, method, nil)
		holdError(t, err, 16, "CREDENTIALS_INVALID")
	}
}

func TestPingsFromFiveSecondsOnAreFine(t *testing.T) {
	for interval, want := range map[time.Duration]string{
		minPingInterval:                  "",
		minPingInterval - pingJitter/2:   "",
		minPingInterval - 2*pingJitter:   "too_many_pings",
		minPingInterval - pingJitter - 1: "too_many_pings",
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t)
			c := f.rawCaller(t)
			stream, err := c.begin(
				controlv1.DeliveryService_SendStream_FullMethodName, "Bearer "+backendSecret,
			)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 {
				time.Sleep(interval)
				if c.framer.WritePing(false, [8]byte{1}) != nil {
					break
				}
			}
			synctest.Wait()
			if want == "" {
				if err := c.framer.WriteRSTStream(stream, 8); err != nil {
					t.Errorf("pings every %v: %v", interval, err)
				}
				_ = c.Close()
			}
			if said := c.over(); said != want {
				t.Errorf("pings every %v: %q, want %q", interval, said, want)
			}
		})
	}
}
