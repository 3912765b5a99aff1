package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/loopback"
)

const (
	// opsRequestTimeout is for a request to arrive, with its body.
	opsRequestTimeout = 5 * time.Second
	// opsAnswerTimeout is for the client to read an answer. For a profile it begins when the
	// profile is made.
	opsAnswerTimeout = 30 * time.Second
	// opsPatience is for a request when the port is full: probes come from near.
	opsPatience    = 10 * time.Millisecond
	opsIdleTimeout = 60 * time.Second // between requests
	opsMaxHeader   = 16 << 10         // bytes
	opsMaxBody     = 1 << 20          // bytes; addresses that `go tool pprof` asks about
	// opsMaxSeconds bounds a profile, which holds its connection. A CPU profile also excludes
	// further CPU profiles.
	opsMaxSeconds = 5 * 60
)

// Server is the operations port: health, metrics, profiles and the hub's self-check.
type Server struct {
	// Static after New.
	hub     *hub.Hub
	secrets *auth.Secrets // nil: the port is on loopback
	http    *http.Server
	lobby   *lobby.Lobby
	working chan struct{} // has an element for each request of the guarded part

	unready atomic.Pointer[func() string] // returns why the hub is not ready; nil: it is ready
}

// The reasons for which a hub is not ready.
const (
	unreadyStarting = "starting"
	ReasonDraining  = "draining"
	ReasonDrained   = "drained"
	ReasonStopping  = "shutting down"
)

// Config is the configuration of a Server. All fields but Secrets and Logger must be
// set.
type Config struct {
	Hub         *hub.Hub             // checks itself at /debug/invariants
	Secrets     *auth.Secrets        // nil: the port is on loopback
	Connections int                  // at once
	Registry    *prometheus.Registry // of the metrics to show
	Logger      *slog.Logger         // gets errors of requests, at Debug; nil: nothing is logged
	Strangers   *lobby.Metrics       // counts refused connections
}

// New returns a server that is not ready yet; see SetReady.
func New(c Config) (*Server, error) {
	// Half of the connections stay free for probes.
	s := &Server{
		hub: c.Hub, secrets: c.Secrets,
		working: make(chan struct{}, (c.Connections+1)/2),
	}
	s.SetReady(unreadyStarting)
	registry, logger := c.Registry, config.Logger(c.Logger)
	errorLog := slog.NewLogLogger(logger.Handler(), slog.LevelDebug)

	guarded := http.NewServeMux()
	guarded.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, ErrorLog: errorLog,
	}))
	guarded.HandleFunc("GET /debug/pprof/", pprof.Index)
	guarded.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	guarded.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	guarded.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	guarded.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	guarded.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	guarded.HandleFunc("GET /debug/invariants", s.serveInvariants)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeAnswer(w, http.StatusOK, "alive")
	})
	mux.HandleFunc("GET /readyz", s.serveReadyz)
	mux.Handle("/", s.guardHandler(guarded))
	s.http = &http.Server{
		Handler:        mux,
		ReadTimeout:    opsRequestTimeout,
		WriteTimeout:   opsAnswerTimeout,
		IdleTimeout:    opsIdleTimeout,
		MaxHeaderBytes: opsMaxHeader,
		ErrorLog:       errorLog,
	}
	var err error
	if s.lobby, err = lobby.New(lobby.Config{
		Port: "ops", Most: c.Connections, Patience: opsPatience, Logger: logger,
		Metrics: c.Strangers,
	}); err != nil {
		return nil, fmt.Errorf("operations: %w", err)
	}
	s.lobby.Attach(s.http)
	return s, nil
}

// NewRegistry returns a private registry with the metrics of Go, of the process and of the build.
func NewRegistry(version string) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_build_info", Help: "Always 1; the labels say what is running.",
	}, []string{"version", "go_version"})
	info.WithLabelValues(version, runtime.Version()).Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// SetReady sets the reason why the hub is not ready; empty: it is ready.
func (s *Server) SetReady(why string) {
	if why == "" {
		s.unready.Store(nil)
		return
	}
	s.SetUnready(func() string { return why })
}

// SetUnready makes each /readyz request ask why for the reason.
func (s *Server) SetUnready(why func() string) { s.unready.Store(&why) }

// Serve serves l until Shutdown. It returns nil then.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(s.lobby.Listener(l)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operations: %w", err)
	}
	return nil
}

// Shutdown lets requests finish until ctx is done, then cuts them: a profile may take longer
// than a shutdown.
func (s *Server) Shutdown(ctx context.Context) {
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
}

// guardHandler demands a secret if there are any. Without secrets the port is on loopback. Then it
// serves only the names of loopback, and no request from a page of another site: a web site could
// point its own name to the port (DNS rebinding), or make a browser start a profile.
func (s *Server) guardHandler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.secrets == nil {
			if !loopback.IsHost(r.Host) || r.Header.Get("Sec-Fetch-Site") == "cross-site" {
				writeAnswer(w, http.StatusForbidden, "only for this machine")
				return
			}
			s.limitRequest(next, w, r)
			return
		}
		if _, ok := s.secrets.Identify(auth.BearerSecret(r.Header.Get("Authorization"))); !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="connhub operations"`)
			writeAnswer(w, http.StatusUnauthorized,
				"a secret of --ops-secret-file is needed: Authorization: Bearer ...")
			return
		}
		s.limitRequest(next, w, r)
	})
}

// limitRequest bounds the requests of the guarded part: how many run at once, and the seconds of a
// profile and the bytes of the body of each.
func (s *Server) limitRequest(next http.Handler, w http.ResponseWriter, r *http.Request) {
	select {
	case s.working <- struct{}{}:
		defer func() { <-s.working }()
	default:
		writeAnswer(w, http.StatusServiceUnavailable,
			fmt.Sprintf("request limit reached: %d at once", cap(s.working)))
		return
	}
	if seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64); err == nil &&
		!(seconds <= opsMaxSeconds) {
		writeAnswer(w, http.StatusBadRequest,
			fmt.Sprintf("seconds is above the limit of %d", opsMaxSeconds))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, opsMaxBody)
	next.ServeHTTP(w, r)
}

func (s *Server) serveReadyz(w http.ResponseWriter, _ *http.Request) {
	if why := s.unready.Load(); why != nil {
		writeAnswer(w, http.StatusServiceUnavailable, (*why)())
		return
	}
	writeAnswer(w, http.StatusOK, "ready")
}

func (s *Server) serveInvariants(w http.ResponseWriter, _ *http.Request) {
	if err := s.hub.CheckInvariants(); err != nil {
		writeAnswer(w, http.StatusInternalServerError, err.Error())
		return
	}
	writeAnswer(w, http.StatusOK, "all hold ("+connectionWords(s.hub.Len())+")")
}

func writeAnswer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

func connectionWords(n int) string {
	if n == 1 {
		return "1 connection"
	}
	return fmt.Sprintf("%d connections", n)
}
