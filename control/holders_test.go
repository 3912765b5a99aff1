package control

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure/failuretest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

const secondBackendSecret = "second-second-second-second-second-second"

// withTwoBackends gives two backends a secret each.
func withTwoBackends(t testing.TB) func(*Config) {
	t.Helper()
	files := map[auth.Role][]string{}
	for role, secrets := range map[auth.Role]string{
		auth.RoleBackend: backendSecret + "\n" + secondBackendSecret, auth.RolePeer: peerSecret,
	} {
		path := filepath.Join(t.TempDir(), "secrets")
		if err := os.WriteFile(path, []byte(secrets), 0o600); err != nil {
			t.Fatal(err)
		}
		files[role] = []string{path}
	}
	secrets, err := auth.LoadSecrets(files)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.Secrets = secrets }
}

// A backend that opens as many connections as it can, and uses them all, keeps out neither another
// backend nor another hub, and is told why it gets no more.
func TestABackendWithAllConnectionsKeepsNobodyOut(t *testing.T) {
	f := newFixture(t, withTwoBackends(t), func(c *Config) { c.MaxConnections = 16 })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(t, l)
	dial := func() *grpc.ClientConn {
		conn, err := grpc.NewClient(
			l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	with := func(secret string) []grpc.CallOption {
		return []grpc.CallOption{grpc.PerRPCCredentials(bearer(secret))}
	}
	stream := func() (controlv1.DeliveryService_SendStreamClient, error) {
		s, err := controlv1.NewDeliveryServiceClient(dial()).SendStream(
			t.Context(), with(backendSecret)...,
		)
		if err != nil {
			t.Fatal(err)
		}
		// Of a stream that was refused already, Recv tells why.
		if err := s.Send(&controlv1.SendStreamRequest{Sends: []*controlv1.StreamedSend{{
			Sequence: 1, Send: &controlv1.SendRequest{Target: everyone(), Message: text("x")},
		}}}); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		_, err = s.Recv()
		return s, err
	}
	for i := range 14 {
		if _, err := stream(); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	_, err = stream()
	failuretest.HoldError(t, err, codes.ResourceExhausted, "TOO_MANY_CONNECTIONS")

	for i := range 5 {
		if _, err := controlv1.NewDeliveryServiceClient(dial()).Send(t.Context(),
			&controlv1.SendRequest{Target: everyone(), Message: text("x")},
			with(secondBackendSecret)...); err != nil {
			t.Fatalf("connection %d of another backend: %v", i, err)
		}
		if _, err := healthv1.NewHealthClient(dial()).Check(
			t.Context(), &healthv1.HealthCheckRequest{}, with(peerSecret)...,
		); err != nil {
			t.Fatalf("connection %d of another hub: %v", i, err)
		}
	}
	if n := f.metric(t, "connhub_grpc_connections"); n != 14 {
		t.Errorf("%d connections have shown a credential, want 14", n)
	}
	if n := f.metric(t, "connhub_grpc_over_share_total"); n != 11 {
		t.Errorf("%d connections were closed or refused, want 10 and 1", n)
	}
	if s := f.log.String(); !strings.Contains(s, `"credential":"backend:`) ||
		strings.Contains(s, "no credential") {
		t.Errorf("logged %s", s)
	}
}

// bearer is a secret that a call shows, also without TLS.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
