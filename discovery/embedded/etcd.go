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
)

// Included reports whether this binary has etcd's server: false with -tags no_embedded_etcd.
const Included = true

// Times of a single member, in milliseconds. It elects itself, so etcd's, which allow for a network, only make it
// start later.
const (
	embeddedTick     = 50
	embeddedElection = 500
)

// embeddedHistory is what etcd keeps of the past. Nobody reads it.
const embeddedHistory = "1h"

// Etcd is an etcd of one member in this process, for development.
type Etcd struct {
	server *embed.Etcd
	lock   *fileutil.LockedFile // on Dir

	hangUp context.CancelFunc // ends the calls that never end by themselves
	failed context.Context    // done when etcd can't go on; its cause says why
	fail   context.CancelCauseFunc
	closed chan struct{} // by Close
	once   sync.Once
}

// Start starts etcd and returns when it answers, or ctx is done. Close it. The error is ErrInUse for the folder,
// and syscall.EADDRINUSE for the address, when another process has them.
func Start(ctx context.Context, c Config) (*Etcd, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("embedded etcd config: %w", err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	streams, hangUp := context.WithCancel(context.Background())
	e := &Etcd{lock: lock, hangUp: hangUp, closed: make(chan struct{})}
	e.failed, e.fail = context.WithCancelCause(context.Background())
	if err = e.start(c.server(streams, fatalHook{e})); err != nil {
		e.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("start etcd: address %s is taken; is another one running? %w", c.ClientAddress, err)
		}
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, err)
	}
	select {
	case <-e.server.Server.ReadyNotify():
		return e, nil
	case <-e.failed.Done():
		e.Close()
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, context.Cause(e.failed))
	case err := <-e.server.Err():
		e.Close()
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, err)
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("start etcd at %s in %s: %w", c.ClientAddress, c.Dir, ctx.Err())
	}
}

// start starts the server. What etcd dies of already then, ends the wait; the goroutine that starts it is held, see fatalHook.
func (e *Etcd) start(c *embed.Config) error {
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

// lockDir keeps a second process out of dir: etcd itself would wait for it without a word and without end.
func lockDir(dir string) (*fileutil.LockedFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := fileutil.TryLockFile(filepath.Join(dir, "connhub.lock"), os.O_CREATE|os.O_WRONLY, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("folder %s is %w", dir, ErrInUse)
	}
	return lock, err
}

// server is etcd's own config.
func (c *Config) server(streams context.Context, fatal zapcore.CheckWriteHook) *embed.Config {
	at, _ := c.clientURL() // Validate has looked at it
	cfg := embed.NewConfig()
	cfg.Name = "connhub-dev"
	cfg.Dir = c.Dir
	cfg.ListenPeerUrls = nil // one member has no peers
	// Nobody listens there, but etcd wants a name, and looks up its own default, localhost, with whatever DNS there is.
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:2380"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{at}, []url.URL{at}
	cfg.TickMs, cfg.ElectionMs = embeddedTick, embeddedElection
	cfg.AutoCompactionRetention = embeddedHistory
	cfg.EnableGRPCGateway = false
	// A web page whose own name was made to point here (DNS rebinding) must not read what etcd says over HTTP.
	cfg.HostWhitelist = map[string]struct{}{"localhost": {}, at.Hostname(): {}}
	cfg.UnsafeNoFsync = c.NoSync
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapToSlog{log: c.Logger}, zap.WithFatalHook(fatal)))
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(streams))}
	return cfg
}

// endWith ends streams when ctx is done. etcd's own Close waits seven seconds for watches to end by themselves.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
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

// Endpoint returns where clients reach it, host:port.
func (e *Etcd) Endpoint() string { return e.server.Clients[0].Addr().String() }

// Wait returns nil after Close, or before it the error for which etcd can't go on: its disk is full, as a rule. Then etcd
// answers nothing any more, and the process must end; Close does not wait for etcd.
func (e *Etcd) Wait() error {
	select {
	case <-e.failed.Done():
		return fmt.Errorf("the etcd in this process can't go on: %w", context.Cause(e.failed))
	case <-e.closed:
		return nil
	}
}

// fatalHook is called in place of the end of the process, by the goroutine of etcd that can't go on.
type fatalHook struct{ etcd *Etcd }

// OnWrite implements zapcore.CheckWriteHook. It does not return: what etcd would do next is undefined. Its goroutine is
// held until Close, and then ends.
func (h fatalHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	cause := entry.Message
	if text, ok := zapFields(fields)["error"].(string); ok {
		cause += ": " + text
	}
	h.etcd.fail(errors.New(cause))
	<-h.etcd.closed
	runtime.Goexit()
}

// Close stops etcd and waits for it, unless etcd can't go on (see Wait). The data stays. It may be called again.
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
