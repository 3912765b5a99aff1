package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// rawCodec sends bytes as they are, and throws answers away.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "proto" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal([]byte, any) error   { return nil }

func invokeRaw(ctx context.Context, conn *grpc.ClientConn, method string, request []byte) error {
	return conn.Invoke(ctx, method, &request, new([]byte), grpc.ForceCodec(rawCodec{}))
}

func TestEveryMethodAsksForTheRightCredentials(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name, authorization string
		code                codes.Code
		reason              string
	}{
		{"none", "", codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"empty", "Bearer ", codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"wrong", "Bearer " +
			strings.Repeat("x", 32), codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"a part", "Bearer " + backendSecret[1:], codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"no scheme", backendSecret, codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"other scheme", "Basic " + backendSecret, codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"a peer's", "Bearer " + peerSecret, codes.PermissionDenied, "ROLE_NOT_ALLOWED"},
	} {
		conn := f.dial(t, c.authorization)
		for _, service := range form.Services() {
			for i := range service.Methods().Len() {
				method := fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(i).Name())
				t.Run(c.name+method, func(t *testing.T) {
					// The request is refused before it is read: its bytes make no difference.
					err := invokeRaw(t.Context(), conn, method, []byte("\xff"))
					failuretest.HoldError(t, err, c.code, c.reason)
				})
			}
		}
	}
}

func TestCredentialsAreTakenOnceAndInAnyCaseOfTheScheme(t *testing.T) {
	f := newFixture(t)
	for scheme, want := range map[string]codes.Code{
		"Bearer": codes.OK, "bearer": codes.OK,
		"BEARER": codes.OK, "Bearer  ": codes.OK, "Bear": codes.Unauthenticated,
	} {
		_, err := controlv1.NewHubServiceClient(f.dial(t, scheme+" "+backendSecret)).ListHubs(
			t.Context(), &controlv1.ListHubsRequest{},
		)
		if status.Code(err) != want {
			t.Errorf("%q: %v, want %v", scheme, err, want)
		}
	}
	twice := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+backendSecret)
	_, err := f.hubs.ListHubs(twice, &controlv1.ListHubsRequest{})
	failuretest.HoldError(t, err, codes.Unauthenticated, "CREDENTIALS_INVALID")
}

func TestUnknownMethodsAreToldToThoseWhoMayKnow(t *testing.T) {
	f := newFixture(t)
	stranger, peer := f.dial(t, ""), f.dial(t, "Bearer "+peerSecret)
	for _, c := range []struct {
		name   string
		conn   *grpc.ClientConn
		method string
		code   codes.Code
		reason string
	}{
		{
			"stranger", stranger, "/connhub.control.v1.DeliveryService/Nope",
			codes.Unauthenticated, "CREDENTIALS_INVALID",
		},
		{
			"stranger, no such service", stranger, "/nope.Nope/Nope",
			codes.Unauthenticated, "CREDENTIALS_INVALID",
		},
		{
			"backend", f.conn, "/connhub.control.v1.DeliveryService/Nope",
			codes.Unimplemented, "UNKNOWN_METHOD",
		},
		{
			"backend, no such service", f.conn, "/nope.Nope/Nope",
			codes.Unimplemented, "UNKNOWN_METHOD",
		},
		{"backend, no such path", f.conn, "/a/b/c", codes.Unimplemented, "UNKNOWN_METHOD"},
		{
			"peer", peer, "/connhub.control.v1.DeliveryService/Nope",
			codes.PermissionDenied, "ROLE_NOT_ALLOWED",
		},
		{
			"backend at a peer's service", f.conn, "/connhub.peer.v1.PeerService/Data",
			codes.PermissionDenied, "ROLE_NOT_ALLOWED",
		},
		{
			"peer at its service, which is not served yet",
			peer, "/connhub.peer.v1.PeerService/Data", codes.Unimplemented, "UNKNOWN_METHOD",
		},
		{
			"only health's Check is open", stranger, "/grpc.health.v1.Health/Nope",
			codes.Unauthenticated, "CREDENTIALS_INVALID",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := invokeRaw(t.Context(), c.conn, c.method, nil)
			failuretest.HoldError(t, err, c.code, c.reason)
		})
	}
}

func TestEveryRPCOfTheProtosIsServed(t *testing.T) {
	served := map[string]bool{}
	for _, method := range newFixture(t).server.fullMethods() {
		served[method] = true
	}
	for _, service := range form.Services() {
		for i := range service.Methods().Len() {
			if method := fmt.Sprintf(
				"/%s/%s", service.FullName(), service.Methods().Get(i).Name(),
			); !served[method] {
				t.Errorf("%s is not served", method)
			}
		}
	}
}

func TestInsecureServersTakeEverybodyForABackendOrAHub(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Secrets, c.Insecure = nil, true })
	conn := f.dial(t, "")
	if _, err := controlv1.NewHubServiceClient(conn).ListHubs(
		t.Context(), &controlv1.ListHubsRequest{},
	); err != nil {
		t.Error(err)
	}
	failuretest.HoldError(t, invokeRaw(
		t.Context(), conn, "/connhub.peer.v1.PeerService/Data", nil,
	), codes.Unimplemented, "UNKNOWN_METHOD")
}

func TestStreamsGoThroughTheSameDoor(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		name   string
		conn   *grpc.ClientConn
		code   codes.Code
		reason string
	}{
		{"stranger", f.dial(t, ""), codes.Unauthenticated, "CREDENTIALS_INVALID"},
		{"peer", f.dial(t, "Bearer "+peerSecret), codes.PermissionDenied, "ROLE_NOT_ALLOWED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			stream, err := reflectionv1.NewServerReflectionClient(c.conn).ServerReflectionInfo(
				t.Context(),
			)
			if err != nil {
				t.Fatal(err)
			}
			_, err = stream.Recv()
			failuretest.HoldError(t, err, c.code, c.reason)
		})
	}
	// A probe needs nothing; a stream would cost the hub as long as a stranger likes.
	health := healthv1.NewHealthClient(f.dial(t, ""))
	if resp, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil ||
		resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", resp, err)
	}
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = watch.Recv()
	failuretest.HoldError(t, err, codes.Unauthenticated, "CREDENTIALS_INVALID")
}

func TestReflectionTellsTheServicesToABackend(t *testing.T) {
	f := newFixture(t)
	stream, err := reflectionv1.NewServerReflectionClient(f.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
	})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	want := len(f.server.grpc.GetServiceInfo())
	if n := len(resp.GetListServicesResponse().GetService()); n != want {
		t.Errorf("%d services, want %d", n, want)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end of the stream: %v", err)
	}
}
