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

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/control/port"
	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/expected"
	"github.com/connhub/connhub/internal/publicurl"
)

const (
	// MinConnections is the least of Config.MaxConnections, if that is set.
	MinConnections = port.MinConnections
	// MinCallBytes is the least of Config.CallBytes.
	MinCallBytes = port.MinCallBytes
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
	Drain     fleet.Drainer  // what DrainHub begins; nil: the method is UNIMPLEMENTED
	// Rebalancer is what RebalanceHubs begins; nil: the method is UNIMPLEMENTED.
	Rebalancer fleet.Rebalancer
	// Room returns what this hub can take of the connections of hubs that leave. It may be called
	// concurrently. Nil: peers do not know.
	Room func() fleet.Room
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

	verbs verbTable // rows that New adds to newVerbTable, or puts in place of its rows
}

// DefaultConfig has the limits, and nothing else.
func DefaultConfig() Config { return Config{CallBytes: port.DefaultCallBytes} }

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Hub != nil, "Hub", "is not set")
	p.Require(c.MaxConnections == 0 || c.MaxConnections >= MinConnections, "MaxConnections",
		"is %d, must be 0 or at least %d", c.MaxConnections, MinConnections)
	p.Require(c.Secrets != nil || c.Insecure, "Secrets", "is not set, and Insecure neither")
	p.Require(c.Secrets == nil || !c.Insecure, "Secrets", "is set, and Insecure too")
	if u := c.PublicURL; u != nil {
		want := publicurl.Check(u)
		p.Require(want == "", "PublicURL", "is %s, want %s", config.QuoteURL(u.String()), want)
	} else {
		p.Require(c.Tokens == nil, "PublicURL", "is not set, but Tokens is")
	}
	p.Require(c.CallBytes >= MinCallBytes,
		"CallBytes", "is %d, must be at least %d", c.CallBytes, MinCallBytes)
	return p
}

// Server serves the control API. Its methods may be called concurrently.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	guard  *port.Guard

	ready <-chan struct{} // closed when backends may call; nil: they may

	publisher publisher // of clients
}

// New returns a Server that does not serve yet. Shutdown ends its goroutines, also if it never
// served.
func New(c Config) (*Server, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("control config: %w", err)
	}
	more := servicesOf(c.Services)
	validator, err := form.NewValidator(more...)
	if err != nil {
		return nil, err
	}
	logger := config.Logger(c.Logger)
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("control metrics: %w", err)
	}
	g := port.New(port.Config{
		Secrets: c.Secrets, Mesh: c.Mesh, Services: more, Validator: validator,
		MaxConnections: c.MaxConnections, CallBytes: c.CallBytes, Logger: logger,
	})
	router := newRouter(c.Hub, c.Mesh)
	s := &Server{
		grpc: grpc.NewServer(g.ServerOptions(c.TLS)...), health: health.NewServer(), guard: g,
		publisher: publisher{router, &m.lost},
	}
	if c.Mesh != nil {
		s.ready = c.Mesh.Ready()
		// The mesh checks its messages itself.
		verbs := newVerbTable()
		if c.Drain != nil {
			verbs["drain"] = drainRow(c.Drain)
		}
		if c.Rebalancer != nil {
			verbs["rebalance"] = rebalanceRow(c.Rebalancer)
		}
		maps.Copy(verbs, c.verbs)
		peers := c.Mesh.Service(&executor{c.Hub, validator.Check, logger, verbs, c.Room})
		peerv1.RegisterPeerServiceServer(g.Registrar(s.grpc, port.NoChecks), peers)
	}
	delivery := &deliveryService{router: router}
	s.registerServices(&c, router, &streamService{
		delivery, g, m, validator.Check, expected.New(maxGather),
	})
	if err := g.SetMethods(s.fullMethods(), c.Metrics); err != nil {
		g.Leave()
		s.grpc.Stop()
		return nil, fmt.Errorf("control metrics: %w", err)
	}
	s.setHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

// registerServices registers the services of backends.
func (s *Server) registerServices(c *Config, router *router, delivery *streamService) {
	r, reader := s.guard.Registrar(s.grpc, port.CheckCalls), reading.New(c.Hub, c.Mesh)
	controlv1.RegisterDeliveryServiceServer(r, delivery)
	controlv1.RegisterConnectionServiceServer(r, &connectionService{router: router, reader: reader})
	controlv1.RegisterGroupServiceServer(r, &groupService{router: router, reader: reader})
	access := &accessService{
		tokens: c.Tokens, publicURL: c.PublicURL, router: router, reader: reader,
	}
	controlv1.RegisterAccessServiceServer(r, access)
	controlv1.RegisterHubServiceServer(r, &fleet.Service{
		Self: c.Hub.ID(), Reader: reader, CallPeer: router.callPeer, Drain: c.Drain,
		Rebalancer: c.Rebalancer,
	})
	for _, service := range c.Services {
		service(s.guard.Registrar(s.grpc, port.CheckAll))
	}
	healthv1.RegisterHealthServer(s.guard.Registrar(s.grpc, port.NoChecks), s.health)
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
	err := s.grpc.Serve(s.guard.Listener(l))
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

// SetUnready sets the health NOT_SERVING for good. Calls are served as before.
func (s *Server) SetUnready() { s.health.Shutdown() }

// Leave sets the health NOT_SERVING, refuses backends, and ends streams. A SendStream says
// going_away and gives its results first. Peers still call until this hub holds no connection, and
// the mesh has ended their streams.
func (s *Server) Leave() {
	s.SetUnready()
	s.guard.Leave()
}

// Quiet returns a channel that is closed when Leave was called and no call of a backend is in
// flight.
func (s *Server) Quiet() <-chan struct{} { return s.guard.Quiet() }

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

// AccountOf returns the account of the caller of a call, for a service of Config.Services. It has
// no bound if ctx is of no call.
func AccountOf(ctx context.Context) port.Account { return port.AccountOf(ctx) }
