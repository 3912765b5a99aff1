package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// A stranger may send the messages that an open method takes, and at most port.StrangerBytes in
// all.
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
		bounds := port.OpenMethods[healthv1.Health_Check_FullMethodName]
		start := time.Now()
		var streams []uint32
		for range bounds.Calls + 1 {
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
		if code := c.status(t, streams[bounds.Calls]); code != "8" {
			t.Errorf("one call more than is allowed: %s, want RESOURCE_EXHAUSTED", code)
		}
		if code := c.status(t, streams[bounds.Calls-1]); code != "4" {
			t.Errorf("a request that does not end: %s, want DEADLINE_EXCEEDED", code)
		}
		if took := time.Since(start); took != bounds.Time {
			t.Errorf("ended after %v, want %v", took, bounds.Time)
		}
		c.over()
		if took := time.Since(start); took != port.StrangerTime {
			t.Errorf("the connection was closed after %v, want %v", took, port.StrangerTime)
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
		time.Sleep(2 * port.StrangerTime)
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
		if took := time.Since(start); took != port.StrangerTime {
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
		silent := make([]*rawCaller, port.MaxStrangersOfAddress+3)
		for i := range silent {
			if i == port.MaxStrangersOfAddress {
				time.Sleep(port.StrangerPatience)
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
		if n := f.metric(t, "connhub_grpc_strangers"); n > port.MaxStrangersOfAddress {
			t.Errorf("%d strangers", n)
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
	for method, bounds := range port.OpenMethods {
		if !unary[method] {
			t.Errorf("%s is open, and not served or a stream: a stranger could hold it", method)
		}
		if bounds.Bytes < 1 || bounds.Bytes > 8<<10 || bounds.Time < 1 ||
			bounds.Time > 5*time.Second || bounds.Calls < 1 || bounds.Calls > 32 {
			t.Errorf("%s is open with bounds %+v", method, bounds)
		}
		if bounds.Bytes*bounds.Calls > port.StrangerBytes {
			t.Errorf("%s takes more than a stranger may send", method)
		}
	}
	for _, method := range f.server.fullMethods() {
		if _, open := port.OpenMethods[method]; open {
			continue
		}
		err := invokeRaw(t.Context(), stranger, method, nil)
		failuretest.HoldError(t, err, 16, "CREDENTIALS_INVALID")
	}
}

func TestPingsFromFiveSecondsOnAreFine(t *testing.T) {
	for interval, want := range map[time.Duration]string{
		port.MinPingInterval:                       "",
		port.MinPingInterval - port.PingJitter/2:   "",
		port.MinPingInterval - 2*port.PingJitter:   "too_many_pings",
		port.MinPingInterval - port.PingJitter - 1: "too_many_pings",
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
