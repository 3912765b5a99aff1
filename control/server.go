package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// maxCalls bounds the calls that a connection may have in flight. A backend that waits for acks
	// has many; each holds a request of some megabytes at most. The budget bounds the calls of all
	// connections of a credential: each call weighs callWeight in it.
	maxCalls = 10_000
	// callWorkers is the number of goroutines that gRPC reuses for calls. A call on them finds a
	// large enough stack: growing a stack costs 5 µs. A stream keeps its worker. A call that finds
	// no free worker has a goroutine of its own.
	callWorkers = 64
	// maxHeaderBytes bounds a call's metadata: a credential, a trace context, and fields of
	// proxies.
	maxHeaderBytes = 32 << 10
	// handshakeTimeout bounds TLS and HTTP/2 settings of a new connection. Shutdown may go on as
	// long after its context is done, because gRPC ends no handshake before its time.
	handshakeTimeout = 5 * time.Second

	// minPingInterval is the least time between the pings of a backend, with a call in flight or
	// without. If a connection pings more often, three times without an answer of the hub between,
	// gRPC ends it with "too_many_pings".
	minPingInterval = 5 * time.Second
	// pingJitter is by how much a ping may be early: timers and networks are not exact.
	pingJitter = time.Second
	// pingInterval and pingTimeout find backends that are gone without a word: behind a NAT or a
	// load balancer that forgot the connection, TCP alone would take hours.
	pingInterval = 30 * time.Second
	pingTimeout  = 10 * time.Second
	// idleTimeout ends connections without a call. A backend's next call opens a connection again.
	idleTimeout = 15 * time.Minute
)

// Config configures a Server. DefaultConfig fills in its limits.
type Config struct {
	Hub       *hub.Hub       // required
	Mesh      *mesh.Mesh     // to the peers; nil: there are none
	Secrets   *auth.Secrets  // of callers; nil only with Insecure
	Insecure  bool           // every caller is a backend: for a laptop, on loopback
	Tokens    *auth.TokenKey // signs client tokens; nil: IssueClientToken answers NO_SIGNING_KEY
	PublicURL *url.URL       // where clients connect (http, https, ws, wss); needed with Tokens
	TLS       *tls.Config    // nil: plain text
	Services  []Service      // of backends besides those of this package
	// MaxConnections caps the connections at once, each a file of the process. It is at least
	// MinConnections, or 0: any number. At most half of it, and at most 256, may be without a
	// credential. Above the cap the hub closes such a connection. An eighth of it, at most 256, is
	// kept for them. If known connections exceed the rest, the backends' credential with most
	// connections gives up a connection.
	MaxConnections int
	// CallBytes caps the memory that the calls of all backends hold: begun requests, waiting sends,
	// unread answers. At least MinCallBytes.
	CallBytes int64
	Logger    *slog.Logger          // nil: nothing is logged
	Metrics   prometheus.Registerer // may be nil
}

// Service registers a service, by its generated function. The server checks requests against the
// rules in the proto before the service sees them, and turns errors into statuses as it does for
// its own services.
//
// The service must end its streams when the hub leaves: Leave does not, and Quiet does not wait for
// them. Shutdown waits.
type Service func(grpc.ServiceRegistrar)

// DefaultConfig has the limits, and nothing else.
func DefaultConfig() Config { return Config{CallBytes: defaultCallBytes} }

// clientSchemes are the schemes that Config.PublicURL may have.
var clientSchemes = []string{"http", "https", "ws", "wss"}

// Validate returns the joined problems of c, or nil.
func (c *Config) Validate() error {
	var errs []error
	if c.Hub == nil {
		errs = append(errs, errors.New("Hub is not set"))
	}
	if c.MaxConnections != 0 && c.MaxConnections < MinConnections {
		errs = append(errs, fmt.Errorf(
			"MaxConnections is %d, must be 0 or at least %d", c.MaxConnections, MinConnections))
	}
	switch {
	case c.Secrets == nil && !c.Insecure:
		errs = append(errs, errors.New("Secrets is not set, and Insecure neither"))
	case c.Secrets != nil && c.Insecure:
		errs = append(errs, errors.New("Secrets is set, and Insecure too"))
	}
	switch {
	case c.PublicURL == nil && c.Tokens != nil:
		errs = append(errs, errors.New("PublicURL is not set, but Tokens is"))
	case c.PublicURL != nil && !slices.Contains(clientSchemes, c.PublicURL.Scheme):
		errs = append(errs, fmt.Errorf(
			"PublicURL has the scheme %q, must be http, https, ws or wss", c.PublicURL.Scheme))
	case c.PublicURL != nil && c.PublicURL.Host == "":
		errs = append(errs, errors.New("PublicURL has no host"))
	}
	errs = append(errs, ValidateCallBytes(c.CallBytes))
	return errors.Join(errs...)
}

// Server serves the control API. Its methods may be called concurrently.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	leave  context.CancelFunc // ends streams
	calls  *inFlight

	port *port

	ready <-chan struct{} // closed when backends may call; nil: they may

	publisher publisher // of clients
}

// New returns a Server that does not serve yet. Shutdown ends its goroutines, also if it never
// served.
func New(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("control config: %w", err)
	}
	more := servicesOf(c.Services)
	validator, err := form.NewValidator(more...)
	if err != nil {
		return nil, err
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	leaving, leave := context.WithCancel(context.Background())
	g := &guard{
		secrets: c.Secrets, logger: logger, calls: newInFlight(), leaving: leaving, more: more,
		port: newPort(logger, c.MaxConnections), codec: newCodec(),
		budget: newBudget(c.CallBytes), unaries: make(map[string]bool),
	}
	s := &Server{
		grpc: grpc.NewServer(serverOptions(g, c.TLS)...), health: health.NewServer(),
		leave: leave, calls: g.calls, port: g.port,
	}
	s.registerServices(&c, registrar{s.grpc, checkWith(validator), g}, g, validator)
	if c.Mesh != nil {
		g.mesh, g.ready = c.Mesh, c.Mesh.Ready()
	}
	s.ready = g.ready

	methods := s.fullMethods()
	g.served = make(map[string]bool, len(methods))
	for _, method := range methods {
		g.served[method] = true
	}
	if g.metrics, err = newMetrics(c.Metrics, methods, g.port, g.budget); err != nil {
		leave()
		s.grpc.Stop()
		return nil, fmt.Errorf("control metrics: %w", err)
	}
	s.publisher = publisher{&router{hub: c.Hub, mesh: c.Mesh}, &g.metrics.lost}
	s.setHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

func serverOptions(g *guard, tlsConfig *tls.Config) []grpc.ServerOption {
	transport := insecure.NewCredentials()
	if tlsConfig != nil {
		transport = credentials.NewTLS(tlsConfig)
	}
	return []grpc.ServerOption{
		grpc.Creds(countedCredentials{transport, g.port}),
		grpc.InTapHandle(g.tapHeaders),
		grpc.UnaryInterceptor(g.interceptUnary),
		grpc.StreamInterceptor(g.interceptStream),
		grpc.UnknownServiceHandler(g.refuseUnknown),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(form.MaxRequestBytes),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: minPingInterval - pingJitter, PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingInterval, Timeout: pingTimeout, MaxConnectionIdle: idleTimeout,
		}),
		grpc.WaitForHandlers(true), // so that nothing of the server is left after Shutdown
		grpc.NumStreamWorkers(callWorkers),
	}
}

// registerServices registers every service. The services of connhub go through r.
func (s *Server) registerServices(c *Config, r grpc.ServiceRegistrar, g *guard, v *form.Validator) {
	router := &router{hub: c.Hub, mesh: c.Mesh}
	delivery := &deliveryService{router: router}
	controlv1.RegisterDeliveryServiceServer(r, &streamService{delivery, g, v.Check})
	controlv1.RegisterConnectionServiceServer(r, &connectionService{router: router})
	controlv1.RegisterGroupServiceServer(r, &groupService{router: router})
	access := &accessService{tokens: c.Tokens, publicURL: c.PublicURL, router: router}
	controlv1.RegisterAccessServiceServer(r, access)
	controlv1.RegisterHubServiceServer(r, &hubService{router: router})
	for _, service := range c.Services {
		service(checkedRegistrar{registrar{s.grpc, checkWith(v), g}, v})
	}
	if c.Mesh != nil {
		// The mesh checks its messages itself.
		peers := c.Mesh.Service(&executor{c.Hub, v.Check, g.logger})
		peerv1.RegisterPeerServiceServer(registrar{s.grpc, skipValidation, g}, peers)
	}
	healthv1.RegisterHealthServer(registrar{s.grpc, skipValidation, g}, s.health)
	reflection.Register(s.grpc) // v1 and v1alpha
}

// fullMethods returns the methods that are served, as "/service/method", sorted.
func (s *Server) fullMethods() []string {
	var methods []string
	for service, info := range s.grpc.GetServiceInfo() {
		for _, method := range info.Methods {
			methods = append(methods, "/"+service+"/"+method.Name)
		}
	}
	slices.Sort(methods)
	return methods
}

// setHealth sets the health of the server as a whole and of each of its services.
func (s *Server) setHealth(status healthv1.HealthCheckResponse_ServingStatus) {
	s.health.SetServingStatus("", status)
	for service := range maps.Keys(s.grpc.GetServiceInfo()) {
		s.health.SetServingStatus(service, status)
	}
}

// Serve takes calls on l until Shutdown, and then returns nil, also if Shutdown came first. It may
// be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	stop := make(chan struct{})
	var announced sync.WaitGroup
	if s.ready == nil {
		s.setHealth(healthv1.HealthCheckResponse_SERVING)
	} else {
		announced.Go(func() { s.announceReady(stop) })
	}
	defer announced.Wait()
	defer close(stop)
	err := s.grpc.Serve(listener{l, s.port})
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve the control API on %s: %w", l.Addr(), err)
	}
	return nil
}

// announceReady sets the health SERVING when backends may call, unless stop comes before.
func (s *Server) announceReady(stop <-chan struct{}) {
	select {
	case <-s.ready:
		s.setHealth(healthv1.HealthCheckResponse_SERVING) // does nothing after Shutdown
	case <-stop:
	}
}

// Leave sets the health NOT_SERVING, refuses backends, and ends streams. A SendStream says
// going_away and gives its results first. Peers still call until this hub holds no connection, and
// the mesh has ended their streams.
func (s *Server) Leave() {
	s.health.Shutdown()
	s.leave()
	s.calls.refuseCalls()
}

// Quiet returns a channel that is closed when Leave was called and no call of a backend is in
// flight.
func (s *Server) Quiet() <-chan struct{} { return s.calls.quiet }

// Shutdown calls Leave, takes no more calls, and waits for the calls in flight. When ctx is done it
// ends them, and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Leave()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		s.grpc.Stop()
		<-stopped
		return ctx.Err()
	}
}
