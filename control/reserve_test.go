package control

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

// spread is a channel of gRPC that spreads its calls over hubs, and how often it has dialled.
func spread(t *testing.T, hubs map[string]*fixture) (_ *grpc.ClientConn, dialled *atomic.Int32) {
	t.Helper()
	dialled = new(atomic.Int32)
	addresses := manual.NewBuilderWithScheme("hubs")
	var all []resolver.Address
	for name := range hubs {
		all = append(all, resolver.Address{Addr: name})
	}
	addresses.InitialState(resolver.State{Addresses: all})
	conn, err := grpc.NewClient("hubs:///all",
		grpc.WithResolvers(addresses),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, name string) (net.Conn, error) {
			dialled.Add(1)
			return hubs[name].listener.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, dialled
}

// A backend connects to each hub, and calls only later. Until then nothing is wrong.
func TestAConnectionThatStandsInReserveStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hubs := map[string]*fixture{"a": newFixture(t), "b": newFixture(t)}
		conn, dialled := spread(t, hubs)
		conn.Connect()
		time.Sleep(port.IdleTimeout - time.Second)
		synctest.Wait()
		if n := int(dialled.Load()); n != len(hubs) {
			t.Errorf("the backend has dialled %d times in silence, want once for each of %d hubs",
				n, len(hubs))
		}
		ctx := metadata.AppendToOutgoingContext(
			t.Context(), "authorization", "Bearer "+backendSecret,
		)
		for range hubs {
			if _, err := controlv1.NewDeliveryServiceClient(conn).Send(
				ctx, &controlv1.SendRequest{Target: everyone(), Message: text("x")},
			); err != nil {
				t.Error(err)
			}
		}
		if n := int(dialled.Load()); n != len(hubs) {
			t.Errorf("the backend has dialled %d times for its calls", n)
		}
		for name, f := range hubs {
			if s := f.log.String(); s != "" || f.metric(t, "connhub_grpc_connections") != 1 {
				t.Errorf("hub %s has %d known connections, and logged %s", name, f.metric(
					t, "connhub_grpc_connections",
				), s)
			}
		}
	})
}

// A connection in reserve makes room when newcomers need it, and only then. Frames that it sends
// change nothing.
func TestAConnectionInReserveMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		reserve := make([]*rawCaller, port.MaxStrangersOfAddress)
		for i := range reserve {
			reserve[i] = f.rawCaller(t)
		}
		time.Sleep(2 * port.StrangerTime)
		if n := f.metric(t, "connhub_grpc_strangers_closed_total"); n != 0 {
			t.Errorf("%d connections closed while there is room", n)
		}
		if err := reserve[0].framer.WritePing(false, [8]byte{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
		reserve[0].over()
		if n := f.metric(t, "connhub_grpc_strangers_closed_total"); n != 1 {
			t.Errorf("%d connections closed for one newcomer", n)
		}
	})
}

// A connection in reserve may not show a wrong credential and stay.
func TestAWrongCallEndsAConnectionInReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.rawCaller(t)
		time.Sleep(3*port.StrangerTime + time.Second)
		start := time.Now()
		stream, err := c.begin(controlv1.DeliveryService_Send_FullMethodName, "Bearer wrong")
		if err != nil {
			t.Fatal(err)
		}
		if code := c.status(t, stream); code != "16" {
			t.Errorf("%s, want UNAUTHENTICATED", code)
		}
		c.over()
		if took := time.Since(start); took > port.StrangerTime {
			t.Errorf("closed after %v, want at most %v", took, port.StrangerTime)
		}
	})
}

// Only a handshake that is complete makes a reserve.
func TestAHandshakeThatIsNotCompleteIsEnded(t *testing.T) {
	for name, said := range map[string]string{
		"nothing": "", "half a preface": http2.ClientPreface[:12],
		"no settings": http2.ClientPreface,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				conn, err := f.listener.DialContext(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				if _, err := io.WriteString(conn, said); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, conn)
				if took := time.Since(start); took > port.HandshakeTimeout {
					t.Errorf("ended after %v, want %v", took, port.HandshakeTimeout)
				}
				_ = conn.Close()
			})
		})
	}
}

// BenchmarkSilentConnection measures a connection that has said hello and nothing more. The
// client's end has no buffers.
func BenchmarkSilentConnection(b *testing.B) {
	withKey := httptest.NewTLSServer(nil)
	defer withKey.Close()
	serverTLS := &tls.Config{Certificates: withKey.TLS.Certificates}
	clientTLS := &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // it is a test's
		NextProtos:         []string{"h2"},
	}
	for name, config := range map[string]*tls.Config{"plain": nil, "tls": serverTLS} {
		b.Run(name, func(b *testing.B) {
			const conns = port.MaxStrangersOfAddress
			f := newFixture(b, func(c *Config) { c.TLS = config })
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			f.serveOn(b, l)
			for b.Loop() {
				before := memoryInUse()
				var open []net.Conn
				for range conns {
					open = append(open, sayHello(b, l.Addr().String(), config != nil, clientTLS))
				}
				b.ReportMetric(float64(memoryInUse()-before)/conns, "B/conn")
				for _, conn := range open {
					_ = conn.Close()
				}
				testkit.Eventually(b, "the hub has no stranger any more", func() bool {
					return f.metric(b, "connhub_grpc_strangers") == 0
				})
			}
		})
	}
}

// memoryInUse returns the bytes of the heap and of stacks that are in use.
func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// sayHello returns the socket of a connection that is set up.
func sayHello(t testing.TB, address string, encrypted bool, config *tls.Config) net.Conn {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	conn := raw
	if encrypted {
		conn = tls.Client(raw, config)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for acked := false; !acked; {
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		settings, ok := frame.(*http2.SettingsFrame)
		acked = ok && settings.IsAck()
	}
	if err := framer.WriteSettingsAck(); err != nil {
		t.Fatal(err)
	}
	return raw
}
