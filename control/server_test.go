package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

func slogTo(b *testkit.LockedBuffer) *slog.Logger { return slog.New(slog.NewJSONHandler(b, nil)) }

func TestNewNamesAllThatIsWrong(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   []string
	}{
		{Config{}, []string{"Hub is not set", "Secrets is not set", "CallBytes is 0"}},
		{Config{Secrets: newSecrets(t), Insecure: true, Tokens: &auth.TokenKey{}}, []string{
			"Hub", "Secrets is set", "PublicURL is not set",
		}},
		{Config{
			Secrets: newSecrets(t), PublicURL: &url.URL{Scheme: "ftp", Host: "h"},
		}, []string{"Hub", `PublicURL is "ftp://h", want http`}},
		{Config{
			Secrets: newSecrets(t), PublicURL: &url.URL{Scheme: "http"},
		}, []string{"Hub", `PublicURL is "http:", want http(s):// or ws(s):// and a host`}},
		{Config{
			Secrets:   newSecrets(t),
			PublicURL: &url.URL{Scheme: "http", Host: "h", User: url.UserPassword("u", "p")},
		}, []string{"Hub", `PublicURL is "http://xxxxx@h", want no user`}},
	} {
		_, err := New(c.config)
		if err == nil {
			t.Fatal("accepted")
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
	registry := prometheus.NewRegistry()
	config := Config{Hub: newHub(t), Insecure: true, Metrics: registry, CallBytes: MinCallBytes}
	first, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(first.grpc.Stop)
	if _, err := New(config); err == nil {
		t.Error("two servers share the metrics of one registry")
	}
}

func TestHealthFollowsTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		client := healthv1.NewHealthClient(f.dial(t, ""))
		for _, service := range []string{"", controlv1.DeliveryService_ServiceDesc.ServiceName} {
			resp, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
			if err != nil || resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
				t.Errorf("%q: %v, %v", service, resp, err)
			}
		}
		_, err := client.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nope"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("unknown service: %v", err)
		}
		watch, err := healthv1.NewHealthClient(f.conn).Watch(
			t.Context(), &healthv1.HealthCheckRequest{},
		)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		// The watch has no end of its own, and does not hold up the shutdown.
		start := time.Now()
		if err := f.server.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestShutdownLetsCallsFinishUntilItMayNot(t *testing.T) {
	for _, c := range []struct {
		name      string
		wait, may time.Duration
		code      codes.Code
		err       error
	}{
		{"in time", 2 * time.Second, 5 * time.Second, codes.OK, nil},
		{"too late", 5 * time.Second, 2 * time.Second, codes.Unavailable, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.connect(t, &wireProtocol{}, "ann").stall(true)
				done := make(chan error)
				go func() {
					_, err := f.delivery.Send(context.Background(), &controlv1.SendRequest{
						Target: users("ann"), Message: text("x"), Wait: controlv1.Wait_WAIT_WRITTEN,
						WaitTimeout: durationpb.New(c.wait),
					})
					done <- err
				}()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), c.may)
				defer cancel()
				start := time.Now()
				stopped := make(chan error)
				go func() { stopped <- f.server.Shutdown(ctx) }()
				if err := <-done; status.Code(err) != c.code {
					t.Errorf("the call in flight: %v, want %v", err, c.code)
				}
				if err := <-stopped; !errors.Is(err, c.err) {
					t.Errorf("shutdown: %v, want %v", err, c.err)
				}
				if took := time.Since(start); took > min(c.wait, c.may)+100*time.Millisecond {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

func TestASilentConnectionHoldsShutdownUpNoLongerThanAHandshakeMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		conn, err := f.listener.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_ = f.server.Shutdown(ctx)
		if took := time.Since(start); took > port.HandshakeTimeout {
			t.Errorf("took %v", took)
		}
	})
}

func TestCallsAreCountedByMethodAndCode(t *testing.T) {
	f := newFixture(t)
	for range 2 {
		f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("x")})
	}
	_, _ = f.delivery.Send(t.Context(), &controlv1.SendRequest{})
	_ = invokeRaw(t.Context(), f.dial(t, ""), controlv1.DeliveryService_Send_FullMethodName, nil)
	_ = invokeRaw(t.Context(), f.conn, "/made.Up/ByACaller", nil)
	if err := f.server.Shutdown(t.Context()); err != nil { // calls are counted when they are over
		t.Fatal(err)
	}
	gathered, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]float64{}
	for _, family := range gathered {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			// Some series are there from the start.
			if n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); n > 0 {
				have[name] = n
			}
		}
	}
	want := map[string]float64{
		"connhub_grpc_requests_total InvalidArgument connhub.control.v1.DeliveryService/Send": 1,
		"connhub_grpc_requests_total OK connhub.control.v1.DeliveryService/Send":              2,
		"connhub_grpc_requests_total Unauthenticated connhub.control.v1.DeliveryService/Send": 1,
		"connhub_grpc_requests_total Unimplemented unknown":                                   1,
		"connhub_grpc_request_seconds connhub.control.v1.DeliveryService/Send":                4,
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func TestTheLargestRequestThatKeepsAllLimitsIsTaken(t *testing.T) {
	f := newFixture(t)
	req := &controlv1.SendRequest{
		Namespace: "n" + strings.Repeat("0", 127),
		Target: &controlv1.Target{
			Users: many(form.MaxTargetNames-1, 104), Groups: []string{"g"},
		},
		Message: &controlv1.Message{
			Id: long(1024), Event: long(1024), Metadata: map[string]string{},
			Payload: &controlv1.Message_Json{Json: `"` + long(1<<20-2) + `"`},
		},
		RequestId: long(1024), OverflowPolicy: controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
		ConflationKey: long(1024),
	}
	for _, name := range many(2048, 4) {
		req.Message.Metadata[name] = ""
	}
	if size := proto.Size(req); size > form.MaxRequestBytes/2 {
		t.Errorf("%d bytes, and MaxRequestBytes is %d", size, form.MaxRequestBytes)
	}
	holdReceipt(t, &controlv1.Receipt{}, f.send(t, req))
}

func TestARequestBeyondAllLimitsIsNotRead(t *testing.T) {
	f := newFixture(t)
	err := sendingBytes(long(form.MaxRequestBytes+1))(t.Context(), f)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("have %v", err)
	}
	if log := f.log.String(); log != "" {
		t.Errorf("a caller's fault was logged: %s", log)
	}
}

func TestTLSIsSpoken(t *testing.T) {
	certificate, pool := newCertificate(t)
	f := newFixture(t, func(c *Config) {
		c.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	})
	conn, err := grpc.NewClient("passthrough:///memory",
		grpc.WithTransportCredentials(
			credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "hub.example"}),
		),
		grpc.WithContextDialer(f.dialer()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := healthv1.NewHealthClient(conn).Check(
		t.Context(), &healthv1.HealthCheckRequest{},
	); err != nil {
		t.Error(err)
	}
}

func newCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"hub.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// FuzzRequests sends strangers' bytes, as a backend, to every unary method of the API. The stream
// has FuzzSendStream.
func FuzzRequests(f *testing.F) {
	fix := newFixture(f)
	fix.connect(f, &wireProtocol{}, "ann", "red")
	var methods []string
	for _, method := range fix.server.fullMethods() {
		if strings.HasPrefix(method, "/connhub.") &&
			method != controlv1.DeliveryService_SendStream_FullMethodName {
			methods = append(methods, method)
		}
	}
	seeds := []proto.Message{
		&controlv1.SendRequest{Target: users("ann"), Message: text("x"), RequestId: "r"},
		&controlv1.ListConnectionsRequest{Target: everyone(), PageSize: 1, PageToken: "AQ"},
		&controlv1.CloseConnectionsRequest{Target: users("bob"), Code: 1001, Reason: "r"},
		&controlv1.AddToGroupsRequest{Target: users("ann"), Groups: []string{"blue"}},
		&controlv1.IssueClientTokenRequest{User: "ann", Ttl: durationpb.New(time.Hour)},
	}
	for i, seed := range seeds {
		b, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint(i), b)
	}
	f.Fuzz(func(t *testing.T, method uint, request []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := invokeRaw(ctx, fix.conn, methods[method%uint(len(methods))], request)
		if code := status.Code(err); code == codes.Internal || code == codes.Unknown {
			t.Errorf("%v", err)
		}
		if log := fix.log.String(); log != "" {
			t.Errorf("logged %s", log)
		}
	})
}
