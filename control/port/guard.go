package port

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
)

// serviceRoles has the role that may call a service. A service without a row is closed, also if it
// is registered.
var serviceRoles = map[string]auth.Role{
	controlv1.DeliveryService_ServiceDesc.ServiceName:   auth.RoleBackend,
	controlv1.ConnectionService_ServiceDesc.ServiceName: auth.RoleBackend,
	controlv1.GroupService_ServiceDesc.ServiceName:      auth.RoleBackend,
	controlv1.AccessService_ServiceDesc.ServiceName:     auth.RoleBackend,
	controlv1.HubService_ServiceDesc.ServiceName:        auth.RoleBackend,

	reflectionv1.ServerReflection_ServiceDesc.ServiceName:      auth.RoleBackend,
	reflectionv1alpha.ServerReflection_ServiceDesc.ServiceName: auth.RoleBackend,

	healthv1.Health_ServiceDesc.ServiceName: auth.RoleBackend,
}

// allowedBeforeReady are the methods that backends may call before the peers know this hub: an
// operator must see why a start hangs.
var allowedBeforeReady = map[string]bool{controlv1.HubService_ListHubs_FullMethodName: true}

// servedWhileLeaving are the methods of backends that a leaving hub serves to the end: an operator
// follows its drain.
var servedWhileLeaving = map[string]bool{controlv1.HubService_DrainHub_FullMethodName: true}

const (
	// ownPackages begins the name of every service of connhub.
	ownPackages = "connhub."
	// peerPackage begins the name of every service between hubs.
	peerPackage = "connhub.peer.v1."
)

// roleFor returns the role that may call a service; false: the service is closed.
func (g *Guard) roleFor(service string) (auth.Role, bool) {
	if strings.HasPrefix(service, peerPackage) {
		return auth.RolePeer, true
	}
	if slices.Contains(g.more, service) {
		return auth.RoleBackend, true
	}
	role, ok := serviceRoles[service]
	return role, ok
}

// Guard surrounds every call. It turns a panic into an error, counts, admits, and turns errors into
// statuses. It refuses a call before its message is read. It is safe for concurrent use once
// SetMethods has returned.
type Guard struct {
	secrets *auth.Secrets // nil: every caller is a backend
	logger  *slog.Logger
	check   *form.Validator
	metrics *metrics
	served  map[string]bool // full methods
	unaries map[string]bool // of served: the unary methods of this hub's services
	more    []string        // Config.Services
	calls   *inFlight

	gate   *gate
	budget *budget
	codec  codec

	mesh  *mesh.Mesh      // nil: there are no peers
	ready <-chan struct{} // closed when backends may call; nil: they may
	// done when the server leaves; ends the streams that do not end in their own order
	leaving context.Context
	leave   context.CancelFunc
}

// Config configures a Guard.
type Config struct {
	// Secrets are those of the callers; nil: every caller is a backend.
	Secrets *auth.Secrets
	// Mesh tells whether this hub may take calls of backends; nil: there are no peers.
	Mesh *mesh.Mesh
	// Services are the full names of more services that backends may call. They end their streams
	// themselves when the server leaves.
	Services []string
	// Validator checks requests; required.
	Validator *form.Validator
	// MaxConnections caps the connections at once; 0: any number.
	MaxConnections int
	// CallBytes caps the memory that the calls of all backends hold. At least MinCallBytes.
	CallBytes int64
	// Logger gets the ends of connections and the errors of calls. Nil: nothing is logged.
	Logger *slog.Logger
}

// New returns a Guard without a server. It starts no goroutine.
func New(c Config) *Guard {
	logger := config.Logger(c.Logger)
	g := &Guard{
		secrets: c.Secrets, logger: logger, check: c.Validator, more: c.Services,
		calls: newInFlight(), unaries: make(map[string]bool),
		gate: newGate(logger, c.MaxConnections), budget: newBudget(c.CallBytes),
		codec: newCodec(),
	}
	g.leaving, g.leave = context.WithCancel(context.Background())
	if c.Mesh != nil {
		g.mesh, g.ready = c.Mesh, c.Mesh.Ready()
	}
	return g
}

// SetMethods names the methods that are served, as "/service/method". It makes metrics for each and
// registers them with r, which may be nil. It must be called once, before the server serves.
func (g *Guard) SetMethods(fullMethods []string, r prometheus.Registerer) error {
	g.served = make(map[string]bool, len(fullMethods))
	for _, method := range fullMethods {
		g.served[method] = true
	}
	var err error
	g.metrics, err = newMetrics(r, fullMethods, g.gate, g.budget)
	return err
}

// Listener returns a listener whose connections g bounds. The server must serve no other.
func (g *Guard) Listener(l net.Listener) net.Listener { return listener{l, g.gate} }

// Leave refuses the calls of backends from now on. It ends the calls that wait for their message,
// and the streams that do not end by themselves.
func (g *Guard) Leave() {
	g.leave()
	g.calls.refuseCalls()
}

// Leaving returns a channel that Leave closes.
func (g *Guard) Leaving() <-chan struct{} { return g.leaving.Done() }

// Quiet returns a channel that is closed when Leave was called and no call of a backend is in
// flight.
func (g *Guard) Quiet() <-chan struct{} { return g.calls.quiet }

// interceptUnary is the interceptor of unary calls.
func (g *Guard) interceptUnary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (resp any, err error) {
	start, c, weighed := time.Now(), callOf(ctx), false
	c.conn.countCall(start)
	if !c.peer {
		g.calls.beginCall(c)
	}
	defer func() { // a single defer, because the compiler does not inline many
		if p := recover(); p != nil {
			resp, err = nil, g.AnswerPanic(info.FullMethod, p)
		}
		c.endMessages()
		// a held answer counts until it is written
		if _, held := resp.(*heldAnswer); weighed && !held {
			c.account.releaseBytes(CallWeight)
		}
		if !c.peer {
			g.calls.endCall(c)
		}
		took := time.Since(start)
		g.metrics.recordUnary(info.FullMethod, status.Code(err), took)
		c.conn.uncountCall(start.Add(took))
	}()
	ctx, err = g.admitCall(ctx, info.FullMethod)
	if err != nil {
		return nil, failure.ToStatus(err)
	}
	if c.open {
		end, err := c.admitOpen(OpenMethods[info.FullMethod])
		if err != nil {
			return nil, failure.ToStatus(err)
		}
		defer end()
	}
	if weighed = c.account.reserveBytes(CallWeight); !weighed {
		return nil, failure.ToStatus(c.account.refuseCall())
	}
	resp, err = handler(ctx, req)
	if err == nil {
		resp, err = c.holdAnswer(ctx, resp)
	}
	if err != nil {
		return nil, g.AnswerError(info.FullMethod, err)
	}
	return resp, nil
}

// interceptStream is the interceptor of streams, and of calls of methods that are not served.
func (g *Guard) interceptStream(
	srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	c := callOf(ss.Context())
	c.conn.countCall(time.Now())
	defer func() {
		if p := recover(); p != nil {
			err = g.AnswerPanic(info.FullMethod, p)
		}
		g.metrics.countEnded(info.FullMethod, status.Code(err))
		c.conn.uncountCall(time.Now())
	}()
	if !g.outlastsLeave(info.FullMethod) {
		g.calls.beginCall(c)
		defer g.calls.endCall(c)
	}
	ctx, err := g.admitCall(ss.Context(), info.FullMethod)
	if err != nil {
		return failure.ToStatus(err)
	}
	defer g.metrics.countOpen(info.FullMethod)()
	if !isPeerMethod(info.FullMethod) {
		weight := streamWeight(info.FullMethod)
		if !c.account.reserveBytes(weight) {
			return failure.ToStatus(c.account.refuseCall())
		}
		defer c.account.releaseBytes(weight)
		defer c.endMessages()
		if info.FullMethod == eventsv1.EventService_Subscribe_FullMethodName {
			if ss, err = holdResponses(ss, c.account); err != nil {
				return failure.ToStatus(err)
			}
		}
		c.stream, _ = grpc.ServerTransportStreamFromContext(ctx).(transportStream)
		ss = &pieceStream{ss, c, !info.IsClientStream}
		defer context.AfterFunc(g.leaving, func() { g.endStream(c, info.FullMethod) })()
	}
	if err := handler(srv, &contextStream{ss, ctx}); err != nil {
		if errors.Is(context.Cause(ctx), hub.ErrShuttingDown) {
			err = hub.ErrShuttingDown
		}
		return g.AnswerError(info.FullMethod, err)
	}
	return nil
}

// endStream ends a stream because the hub leaves, also while it waits in the transport. It leaves
// alone the streams that end in their own order, unless such a stream has sent no message yet.
func (g *Guard) endStream(c *grpcCall, fullMethod string) {
	if !g.leavesInOrder(fullMethod) || g.outlastsLeave(fullMethod) && !c.received.Load() &&
		!servedWhileLeaving[fullMethod] {
		c.cancel(hub.ErrShuttingDown)
	}
}

// pieceStream is a stream whose call reads its messages.
type pieceStream struct {
	grpc.ServerStream

	call *grpcCall
	only bool // the caller sends a single message
}

// RecvMsg implements grpc.ServerStream. The guard answers its errors.
func (s *pieceStream) RecvMsg(m any) error {
	return s.call.receiveMessage(s.Context(), m, s.only)
}

// leavesInOrder reports whether a stream ends by itself when the server leaves.
func (g *Guard) leavesInOrder(fullMethod string) bool {
	return fullMethod == controlv1.DeliveryService_SendStream_FullMethodName ||
		g.outlastsLeave(fullMethod)
}

// outlastsLeave reports whether a stream goes on while the hub leaves. The mesh ends the streams of
// peers, and a service of Config.Services ends its own. DrainHub ends with the drain.
func (g *Guard) outlastsLeave(fullMethod string) bool {
	return isPeerMethod(fullMethod) || servedWhileLeaving[fullMethod] ||
		slices.Contains(g.more, serviceOf(fullMethod))
}

// contextStream is a stream with a context of the guard.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// admitCall authenticates and authorizes. The context that it returns knows the caller.
func (g *Guard) admitCall(ctx context.Context, fullMethod string) (context.Context, error) {
	c := callOf(ctx)
	if c.Context == nil { // in a test without a transport
		c = &grpcCall{open: isOpen(fullMethod)}
		authorization := metadata.ValueFromIncomingContext(ctx, "authorization")
		c.identity, c.valid = g.identifyCaller(authorization)
		ctx = context.WithValue(ctx, callKey{}, c)
	}
	if c.open {
		return ctx, nil
	}
	role, listed := g.roleFor(serviceOf(fullMethod))
	switch {
	case !c.valid:
		return nil, failure.ErrCredentialsInvalid
	case c.refused:
		return nil, failure.ErrTooManyConnections
	case listed && c.identity.Role != role && g.secrets != nil:
		return nil, failure.ErrRoleNotAllowed
	case !g.served[fullMethod]:
		return nil, failure.ErrUnknownMethod
	case !listed:
		return nil, failure.ErrRoleNotAllowed
	case role == auth.RoleBackend && g.refusesBackends(fullMethod):
		return nil, hub.ErrShuttingDown
	case role == auth.RoleBackend && !g.isKnownToPeers() && !allowedBeforeReady[fullMethod]:
		return nil, failure.ErrHubStarting
	}
	return ctx, nil
}

// refusesBackends reports whether the hub takes no calls of this method from backends any more.
func (g *Guard) refusesBackends(fullMethod string) bool {
	return (g.calls.isRefusing() || g.mesh != nil && g.mesh.Forgotten()) &&
		!servedWhileLeaving[fullMethod]
}

// isKnownToPeers reports whether peers know this hub. Before that a send through it would silently
// miss their connections.
func (g *Guard) isKnownToPeers() bool {
	if g.ready == nil {
		return true
	}
	select {
	case <-g.ready:
		return true
	default:
		return false
	}
}

// insecureIdentity is the identity of every caller, peers too, if the server runs without
// credentials.
var insecureIdentity = auth.Identity{Role: auth.RoleBackend, Name: "insecure"}

// identifyCaller returns the identity of the bearer secret in the values of a call's header.
func (g *Guard) identifyCaller(values []string) (auth.Identity, bool) {
	if g.secrets == nil {
		return insecureIdentity, true
	}
	if len(values) != 1 {
		return auth.Identity{}, false
	}
	return g.secrets.Identify(auth.BearerSecret(values[0]))
}

// isPeerMethod reports whether a method is for peers. fullMethod is as the caller wrote it: it may
// be empty, or without a slash.
func isPeerMethod(fullMethod string) bool {
	return strings.HasPrefix(methodName(fullMethod), peerPackage)
}

// methodName is the full name without its slash, for people and for prefixes.
func methodName(fullMethod string) string { return strings.TrimPrefix(fullMethod, "/") }

// AnswerError turns an error of a handler into a status. The mesh, health and reflection make
// statuses themselves.
func (g *Guard) AnswerError(fullMethod string, err error) error {
	if answered, ok := errors.AsType[answeredError](err); ok {
		return answered.error
	}
	_, isStatus := status.FromError(err)
	isOwn := strings.HasPrefix(methodName(fullMethod), ownPackages)
	if isStatus && (!isOwn || isPeerMethod(fullMethod)) {
		return err
	}
	if failure.CodeOf(err) == codes.Internal {
		g.logger.Error("call failed", "method", methodName(fullMethod), "error", err)
	}
	return failure.ToStatus(err)
}

// AnswerPanic logs a panic of a handler, and returns the status for its caller.
func (g *Guard) AnswerPanic(fullMethod string, p any) error {
	g.logger.Error("call panicked", "method", methodName(fullMethod),
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return failure.ToStatus(failure.ErrInternal)
}

// refuseUnknown is the handler of methods that are not served.
func (g *Guard) refuseUnknown(any, grpc.ServerStream) error { return failure.ErrUnknownMethod }

// serviceOf returns the service in "/service/method".
func serviceOf(fullMethod string) string {
	service := methodName(fullMethod)
	if i := strings.LastIndexByte(service, '/'); i >= 0 {
		service = service[:i]
	}
	return service
}
