//go:build !no_embedded_etcd

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/connhub/connhub/internal/config"
)

// Times of a single member, in milliseconds. It elects itself: etcd's defaults allow for a network
// and would only make it start later.
const (
	tickMillis     = 50
	electionMillis = 500
)

// historyKept is how long etcd keeps old revisions. No reader needs them.
const historyKept = "1h"

// Etcd is a single etcd server in this process, for development.
type Etcd struct {
	server *embed.Etcd
	lock   *fileutil.LockedFile // on Dir

	hangUp context.CancelFunc // ends the calls that never end by themselves
	failed context.Context    // done when etcd can't go on; its cause says why
	fail   context.CancelCauseFunc
	closed chan struct{} // by Close
	once   sync.Once
}

// Start starts etcd. It returns when etcd answers or ctx is done. The caller must call Close. If
// another process has the folder, the error is ErrInUse; if another process has the address, it is
// syscall.EADDRINUSE.
func Start(ctx context.Context, c Config) (*Etcd, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("embedded etcd config: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	streams, hangUp := context.WithCancel(context.Background())
	e := &Etcd{lock: lock, hangUp: hangUp, closed: make(chan struct{})}
	e.failed, e.fail = context.WithCancelCause(context.Background())
	if err = e.startServer(c.serverConfig(streams, fatalHook{e})); err != nil {
		e.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("start etcd: address %s is taken; is another one running? %w",
				c.ClientAddress, err)
		}
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, err)
	}
	select {
	case <-e.server.Server.ReadyNotify():
		return e, nil
	case <-e.failed.Done():
		e.Close()
		err := context.Cause(e.failed)
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, err)
	case err := <-e.server.Err():
		e.Close()
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, err)
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, ctx.Err())
	}
}

// startServer starts the server. It returns early if etcd can't go on; then the goroutine that
// starts the server is held until Close, see fatalHook.
func (e *Etcd) startServer(c *embed.Config) error {
	type result struct {
		server *embed.Etcd
		err    error
	}
	started := make(chan result, 1)
	go func() {
		server, err := embed.StartEtcd(c)
		started <- result{server, err}
	}()
	select {
	case r := <-started:
		e.server = r.server
		return r.err
	case <-e.failed.Done():
		return context.Cause(e.failed)
	}
}

// lockDir keeps a second process out of dir. etcd itself would wait for the folder silently and
// without end.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "connhub.lock")
	lock, err := fileutil.TryLockFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("folder %s is %w", dir, ErrInUse)
	}
	return lock, err
}

// serverConfig returns etcd's own config.
func (c *Config) serverConfig(streams context.Context, fatal zapcore.CheckWriteHook) *embed.Config {
	at, _ := c.clientURL() // Validate has looked at it
	cfg := embed.NewConfig()
	cfg.Name = "connhub-dev"
	cfg.Dir = c.Dir
	cfg.ListenPeerUrls = nil // a single member has no peers
	// No server listens there, but etcd wants an address, and would look up its default, localhost.
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	cfg.TickMs, cfg.ElectionMs = tickMillis, electionMillis
	cfg.AutoCompactionRetention = historyKept
	cfg.EnableGRPCGateway = false
	// A web page can make its own name point here (DNS rebinding). It must not read etcd over HTTP.
	cfg.HostWhitelist = map[string]struct{}{"localhost": {}, at.Hostname(): {}}
	cfg.UnsafeNoFsync = c.NoSync
	logger := zap.New(zapToSlog{log: c.Logger}, zap.WithFatalHook(fatal))
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{
		grpc.ChainStreamInterceptor(endStreamsWith(streams)),
	}
	return cfg
}

// endStreamsWith ends streams when ctx is done. etcd's own Close waits seven seconds for watches to
// end by themselves.
func endStreamsWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(
		srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler,
	) error {
		own, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handle(srv, &endingStream{ServerStream: stream, ctx: own})
	}
}

type endingStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s *endingStream) Context() context.Context { return s.ctx }

// Endpoint returns the address of the clients' port, host:port.
func (e *Etcd) Endpoint() string { return e.server.Clients[0].Addr().String() }

// Wait returns nil after Close. If etcd can't go on before that, it returns the cause, which as a
// rule is a full disk. Then etcd answers nothing any more and the process must end; Close does not
// wait for etcd.
func (e *Etcd) Wait() error {
	select {
	case <-e.failed.Done():
		return fmt.Errorf("the etcd in this process can't go on: %w", context.Cause(e.failed))
	case <-e.closed:
		return nil
	}
}

// fatalHook takes the place of the end of the process. etcd calls it when it can't go on.
type fatalHook struct{ etcd *Etcd }

// OnWrite implements zapcore.CheckWriteHook. It does not return, because etcd is not made to go on
// after that. The goroutine is held until Close, and then ends.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	cause := entry.Message
	if text, ok := decodeFields(fields)["error"].(string); ok {
		cause += ": " + text
	}
	h.etcd.fail(errors.New(cause))
	<-h.etcd.closed
	runtime.Goexit()
}

// Close stops etcd and waits for it, unless etcd can't go on (see Wait). The data stays. Close may
// be called again.
func (e *Etcd) Close() {
	e.once.Do(func() {
		close(e.closed)
		e.hangUp()
		if e.server != nil && e.failed.Err() == nil {
			e.server.Close()
		}
		_ = e.lock.Close() // nothing was written
	})
}
