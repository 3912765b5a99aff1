package port

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// strayService is registered, but no role is set for it.
var strayService = grpc.ServiceDesc{
	ServiceName: "stray.Service",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(any, context.Context, func(
		any,
	) error, grpc.UnaryServerInterceptor,
	) (any, error) {
		panic("reached")
	}}},
}

func TestAServiceWithoutARoleIsClosedEvenWhenRegistered(t *testing.T) {
	server := grpc.NewServer()
	t.Cleanup(server.Stop)
	g := &Guard{calls: newInFlight(), secrets: newSecrets(t), served: map[string]bool{
		"/stray.Service/Do": true,
	}, unaries: map[string]bool{}}
	registrar{server: server, guard: g}.RegisterService(&strayService, nil)
	for _, secret := range []string{backendSecret, peerSecret} {
		ctx := metadata.NewIncomingContext(
			t.Context(), metadata.Pairs("authorization", "Bearer "+secret),
		)
		_, err := g.admitCall(ctx, "/stray.Service/Do")
		if !errors.Is(err, failure.ErrRoleNotAllowed) {
			t.Errorf("%s: %v", secret, err)
		}
	}
}

func TestInternalTextDoesNotReachCallers(t *testing.T) {
	const secret = "secret detail of the inside"
	for _, c := range []struct {
		name, logged string
		fail         func() error
	}{
		{"an unknown error", "call failed", func() error { return errors.New(secret) }},
		{"a status of somebody else", "call failed", func() error {
			return status.Error(codes.NotFound, secret)
		}},
		{"an error that no call leads to", "call failed", func() error {
			return fmt.Errorf("%s: %w", secret, hub.ErrTooManyConnections)
		}},
		{"a panic", "call panicked", func() error { panic(secret) }},
		{"a wrapped sentinel", "", func() error {
			return fmt.Errorf("%s: %w", secret, hub.ErrConnectionNotFound)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &testkit.LockedBuffer{}
			g := &Guard{
				calls: newInFlight(), secrets: newSecrets(t),
				logger: slogTo(log), served: map[string]bool{
					controlv1.ConnectionService_GetConnection_FullMethodName: true,
				},
			}
			g.metrics = newTestMetrics(t)
			ctx := metadata.NewIncomingContext(
				t.Context(), metadata.Pairs("authorization", "Bearer "+backendSecret),
			)
			_, err := g.interceptUnary(ctx, &controlv1.GetConnectionRequest{},
				&grpc.UnaryServerInfo{
					FullMethod: controlv1.ConnectionService_GetConnection_FullMethodName,
				},
				func(context.Context, any) (any, error) { return nil, c.fail() })
			if c.logged == "" {
				failuretest.HoldError(t, err, codes.NotFound, "CONNECTION_NOT_FOUND")
			} else {
				failuretest.HoldError(t, err, codes.Internal, "INTERNAL")
			}
			if strings.Contains(fmt.Sprint(status.Convert(err).Proto()), secret) {
				t.Errorf("leaked: %v", err)
			}
			if n := strings.Count(log.String(), "\n"); (n == 1) != (c.logged != "") ||
				!strings.Contains(log.String(), c.logged) {
				t.Errorf("logged %q", log)
			}
			if panicked := strings.Contains(
				log.String(), "guard_test.go",
			); panicked != (c.name == "a panic") {
				t.Errorf("stack in the log: %v", panicked)
			}
		})
	}
}

func TestAPanicInAStreamIsAnInternalError(t *testing.T) {
	log := &testkit.LockedBuffer{}
	g := &Guard{
		calls: newInFlight(), logger: slogTo(log),
		metrics: newTestMetrics(t), leaving: t.Context(), served: map[string]bool{
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": true,
		},
	}
	err := g.interceptStream(nil, &contextStream{ctx: t.Context()}, &grpc.StreamServerInfo{
		FullMethod: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
	},
		func(any, grpc.ServerStream) error { panic("secret") })
	failuretest.HoldError(t, err, codes.Internal, "INTERNAL")
	if !strings.Contains(log.String(), "secret") {
		t.Errorf("logged %q", log)
	}
}

func TestStreamsOfPeersAreNotEndedByLeaving(t *testing.T) {
	leaving, leave := context.WithCancel(t.Context())
	leave()
	for method, want := range map[string]bool{
		"/connhub.peer.v1.PeerService/Data":                         true,
		controlv1.DeliveryService_SendStream_FullMethodName:         true,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": false,
		"/grpc.health.v1.Health/Watch":                              false,
	} {
		g := &Guard{
			calls: newInFlight(), logger: slogTo(&testkit.LockedBuffer{}),
			metrics: newTestMetrics(t), leaving: leaving, served: map[string]bool{method: true},
		}
		ctx, err := g.tapHeaders(t.Context(), &tap.Info{FullMethodName: method})
		if err != nil {
			t.Fatal(err)
		}
		err = g.interceptStream(nil, &contextStream{ctx: ctx},
			&grpc.StreamServerInfo{FullMethod: method}, func(_ any, ss grpc.ServerStream) error {
				select {
				case <-ss.Context().Done():
					return ss.Context().Err()
				case <-time.After(10 * time.Millisecond):
					return nil
				}
			})
		if (err == nil) != want {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func newTestMetrics(t *testing.T) *metrics {
	t.Helper()
	m, err := newMetrics(
		nil, nil, newGate(slog.New(slog.DiscardHandler), 0), newBudget(DefaultCallBytes),
	)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryServiceOfTheProtosHasARole(t *testing.T) {
	for _, service := range form.Services() {
		role, ok := (&Guard{}).roleFor(string(service.FullName()))
		if !ok || role != auth.RoleBackend {
			t.Errorf("%s: role %q, %v", service.FullName(), role, ok)
		}
	}
}
