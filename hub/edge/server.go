package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/admit"
	"github.com/connhub/connhub/hub/edge/budget"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/hub/edge/take"
	"github.com/connhub/connhub/hub/edge/wheel"
	"github.com/connhub/connhub/internal/config"
)

const (
	// maxHeaderBytes bounds a request's header. A browser's header is under 4 KiB. The rest is room
	// for a token with many groups.
	maxHeaderBytes = 16 << 10
	// responseTimeout is how long an answer that is no upgrade may take: the page, over a slow
	// phone.
	responseTimeout = 30 * time.Second
)

// Server is the hub's side towards clients. It is safe for concurrent use.
type Server struct {
	// Static after New.
	config    Config
	plain     *countedProtocol
	protocols []*countedProtocol
	metrics   *metrics
	wheel     *wheel.Wheel // for the heartbeats of links
	lobby     *lobby.Lobby
	line      *line        // of TLS handshakes
	queue     *admit.Queue // of handshakes above the connect rate
	takes     *take.Takes  // of connections that other hubs have
	http      *http.Server
	sockets   *netpoll.Poller // of links
	started   time.Time

	readers readerPool

	resuming sync.Map // the *hub.Connections with a handshake that waits in class admit.Resume

	inbound *budget.Budget // bytes of messages that clients have begun and not ended
	links   atomic.Int64   // sockets of links, and of upgrades that are being answered

	// clients that are being declined, at most Config.mostDeclines
	declines atomic.Int64

	// goroutines counts handshakes under way, links, their writers and the wheel. Handshakes
	// enter under mu. A goroutine that is counted already adds the rest.
	goroutines sync.WaitGroup

	mu      sync.Mutex
	closing bool
}

// New returns a server that serves no client yet. It starts no goroutine.
func New(c Config) (*Server, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("edge config: %w", err)
	}
	metrics, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("edge metrics: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	s := &Server{config: c, metrics: metrics, started: time.Now()}
	s.sockets = netpoll.NewPoller(netpoll.Config{
		Started: s.started, MessageTimeout: c.MessageTimeout, Blocking: c.GoroutinePerLink,
		Goroutines: &s.goroutines,
	})
	s.inbound = budget.New(c.InboundBytes)
	s.plain = s.metrics.countProtocol(c.Plain, c.MaxMessage)
	for _, p := range c.Protocols {
		s.protocols = append(s.protocols, s.metrics.countProtocol(p, c.MaxMessage))
	}
	s.wheel = wheel.New(wheel.Config{
		Started: s.started, Longest: c.PingInterval + c.PongTimeout, Goroutines: &s.goroutines,
	})
	s.line = newLine(s.metrics)
	if s.queue, err = c.newQueue(); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	if s.takes, err = c.newTakes(); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}
	l := lobby.DefaultConfig()
	l.Port, l.Most, l.Logger, l.Metrics = "clients", c.MaxStrangers, c.Logger, c.Strangers
	if s.lobby, err = lobby.New(l); err != nil {
		return nil, fmt.Errorf("edge: %w", err)
	}

	var http1 http.Protocols
	http1.SetHTTP1(true) // an upgrade needs HTTP/1.1
	s.http = &http.Server{
		Handler:           s.Handler(),
		Protocols:         &http1,
		ReadHeaderTimeout: c.HandshakeTimeout,
		ReadTimeout:       c.HandshakeTimeout,
		WriteTimeout:      responseTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelDebug),
	}
	s.http.SetKeepAlivesEnabled(false) // a socket without upgrade is of no more use
	s.lobby.Attach(s.http)
	return s, nil
}

// Handler returns the handler that Serve serves: the clients' endpoints, and the page.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.routeRequest) }

// Serve accepts clients until Shutdown, and then returns nil. Links cost least on connections that
// are *net.TCPConn, or come from NewTLSListener. A TLS listener must not offer "h2"
// (tls.Config.NextProtos): an upgrade needs HTTP/1.1.
func (s *Server) Serve(l net.Listener) error {
	_, sealed := l.(*netpoll.TLSListener)
	g := newGreeter(s, s.lobby.Listener(netpoll.NewListener(l)), sealed)
	defer g.closeAndWait()
	if err := s.http.Serve(g); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve clients: %w", err)
	}
	return nil
}

// Shutdown stops accepting and refuses handshakes (503) at once. Then it waits until every link has
// ended. It does not end links: the hub closes connections, so call Hub.Shutdown at the same time
// or before. If ctx is done first, Shutdown closes the remaining sockets without a goodbye and
// returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.line.cutAll() // a handshake that ends now leads to no link
	s.queue.Close()
	s.takes.Close()
	defer s.lobby.DropIdle()()

	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close() // err tells already that it was not clean
	}
	ended := make(chan struct{})
	go func() {
		s.goroutines.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		s.lobby.DropAll()
		s.wheel.AbortAll()
		<-ended
		err = ctx.Err()
	}
	s.sockets.Close()
	s.readers.closePool()
	return err
}

// enterHandshake counts a handshake, and the link that it becomes, so that Shutdown waits for it.
// It returns false if Shutdown has begun. The goroutine that ends the handshake or link calls
// goroutines.Done.
func (s *Server) enterHandshake() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.goroutines.Add(1)
	}
	return !s.closing
}

// isServing reports whether Shutdown has not begun.
func (s *Server) isServing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closing
}

// sinceStart returns the time since the server was made: a monotonic clock that fits an atomic.
func (s *Server) sinceStart() time.Duration { return time.Since(s.started) }

// The clients' endpoints.
const (
	pathHubs    = "/client/hubs/" // a namespace follows
	pathClients = "/client/"      // ours with all below, so a mistyped endpoint is no page
	pathShort   = "/ws"           // of the default namespace
	// pathREST is below Web PubSub's REST API, whose SDKs read 404 as "there is no such user".
	pathREST = "/api/"
)

// namespaceOf returns the namespace that a path names. It returns false if the path is no endpoint
// of clients.
func namespaceOf(path string) (string, bool) {
	if path == pathShort {
		return hub.DefaultNamespace, true
	}
	namespace, ok := strings.CutPrefix(path, pathHubs)
	return namespace, ok && namespace != "" && !strings.Contains(namespace, "/")
}

// isClientPath reports whether a path is an endpoint of clients.
func isClientPath(path string) bool {
	_, ok := namespaceOf(path)
	return ok
}

func (s *Server) routeRequest(w http.ResponseWriter, r *http.Request) {
	namespace, known := namespaceOf(r.URL.Path)
	switch refused := s.checkHost(r); {
	case refused != nil:
		s.refuseRequest(w, r, refused)
	case strings.HasPrefix(r.URL.Path, pathREST):
		s.refuseRequest(w, r, newRefusal(reasonNotServed))
	case known:
		s.connectClient(w, r, strings.ToLower(namespace))
	case s.config.Page != nil && !strings.HasPrefix(r.URL.Path, pathClients):
		s.config.Page.ServeHTTP(w, r)
	default:
		s.refuseRequest(w, r, newRefusal(reasonNotFound))
	}
}

// refuseRequest answers, counts and logs a refusal. It logs the path, never the query, which may
// have a token.
func (s *Server) refuseRequest(w http.ResponseWriter, r *http.Request, why *requestRefusal) {
	s.metrics.refused[why.reason].Inc()
	s.config.Logger.Debug("handshake refused",
		slog.String("reason", why.reason.metricLabel()),
		slog.String("detail", why.detail),
		slog.String("path", r.URL.Path),
		slog.String("remote_address", r.RemoteAddr))
	s.setRetryAfter(w.Header(), why.reason)
	why.writeProblem(w)
}
