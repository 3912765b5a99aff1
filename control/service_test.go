package control

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/failure/failuretest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

// guestError is an error of a service that control does not know.
type guestError struct{ field string }

func (guestError) Error() string   { return "must be otherwise" }
func (e guestError) Field() string { return e.field }
func (e guestError) Reason() controlv1.ErrorReason {
	if e.field == "" {
		return controlv1.ErrorReason_ERROR_REASON_SUBSCRIBER_SLOW
	}
	return controlv1.ErrorReason_ERROR_REASON_INVALID_FIELD
}

// guest is a service that the configuration brings. Its streams end as end says.
type guest struct {
	eventsv1.UnimplementedEventServiceServer

	end chan error
}

func (g *guest) register(r grpc.ServiceRegistrar) { eventsv1.RegisterEventServiceServer(r, g) }

// Subscribe answers each request until the stream is to end, or a request breaks a rule.
func (g *guest) Subscribe(
	stream grpc.BidiStreamingServer[eventsv1.SubscribeRequest, eventsv1.SubscribeResponse],
) error {
	refused := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				refused <- err
				return
			}
			_ = stream.Send(&eventsv1.SubscribeResponse{})
		}
	}()
	select {
	case err := <-g.end:
		return err
	case err := <-refused:
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

const guestMethod = eventsv1.EventService_Subscribe_FullMethodName

func TestAServiceOfTheConfigurationIsForBackendsThatKeepItsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guest{end: make(chan error)}
		f := newFixture(t, func(c *Config) { c.Services = []Service{g.register} })
		failuretest.HoldError(t, invokeRaw(
			t.Context(), f.dial(t, ""), guestMethod, nil,
		), codes.Unauthenticated, "CREDENTIALS_INVALID")
		failuretest.HoldError(t, invokeRaw(t.Context(), f.dial(t, "Bearer "+
			peerSecret), guestMethod, nil), codes.PermissionDenied, "ROLE_NOT_ALLOWED")
		holdFieldError(t, invokeRaw(
			t.Context(), f.conn, guestMethod, []byte("\xff"),
		), "INVALID_FIELD", "", "protobuf")

		open := func() eventsv1.EventService_SubscribeClient {
			t.Helper()
			s, err := eventsv1.NewEventServiceClient(f.conn).Subscribe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(
				&eventsv1.SubscribeRequest{Subscription: &eventsv1.Subscription{}},
			); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		if err := s.Send(&eventsv1.SubscribeRequest{
			Subscription: &eventsv1.Subscription{Namespaces: []string{"-"}},
		}); err != nil {
			t.Fatal(err)
		}
		_, err := s.Recv()
		holdFieldError(
			t, err, "INVALID_FIELD", "subscription.namespaces[0]", "must be 1 to 128 characters",
		)

		for _, c := range []struct {
			err    error
			code   codes.Code
			reason string
		}{
			{guestError{}, codes.ResourceExhausted, "SUBSCRIBER_SLOW"},
			{errors.New("of nobody"), codes.Internal, "INTERNAL"},
		} {
			s := open()
			g.end <- c.err
			_, err := s.Recv()
			failuretest.HoldError(t, err, c.code, c.reason)
		}
		s = open()
		g.end <- guestError{"subscription"}
		_, err = s.Recv()
		holdFieldError(t, err, "INVALID_FIELD", "subscription", "must be otherwise")
	})
}

func TestStreamsOfAServiceOfTheConfigurationAreItsOwnToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &guest{end: make(chan error)}
		f := newFixture(t, func(c *Config) { c.Services = []Service{g.register} })
		s, err := eventsv1.NewEventServiceClient(f.conn).Subscribe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		request := &eventsv1.SubscribeRequest{Subscription: &eventsv1.Subscription{}}
		for range 2 {
			if err := s.Send(request); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatalf("the stream ends with %v", err)
			}
			f.server.Leave()
			<-f.server.Quiet()
		}
		_, err = f.delivery.Send(
			t.Context(), &controlv1.SendRequest{Target: everyone(), Message: text("x")},
		)
		failuretest.HoldError(t, err, codes.Unavailable, "SHUTTING_DOWN")

		stopped := make(chan error)
		go func() { stopped <- f.server.Shutdown(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-stopped:
			t.Fatalf("Shutdown did not wait for the stream: %v", err)
		default:
		}
		g.end <- nil
		if _, err := s.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("the stream ends with %v", err)
		}
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestAServiceWithoutAProtoIsRefused(t *testing.T) {
	_, err := New(Config{
		Hub: newHub(t), Insecure: true,
		CallBytes: MinCallBytes, Services: []Service{
			func(r grpc.ServiceRegistrar) {
				stray := &grpc.ServiceDesc{ServiceName: "stray.Service", HandlerType: (*any)(nil)}
				r.RegisterService(stray, nil)
			},
		},
	})
	if err == nil {
		t.Error("taken")
	}
}
