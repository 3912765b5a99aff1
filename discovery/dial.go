package discovery

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
)

// gRPC's own pings find a TCP connection that leads nowhere. etcd hangs up on who pings more often than each
// 5 s.
const (
	pingInterval = 10 * time.Second
	pingTimeout  = 3 * time.Second
)

// dialer makes the one client of a Registry when it is first needed: with a password the making of it calls
// etcd, which may be away when a hub starts.
type dialer struct {
	config clientv3.Config // static

	mu     sync.Mutex // held while dialing, which config.DialTimeout bounds
	client *clientv3.Client
}

// newDialer's client lives until ctx is done or close is called.
func newDialer(ctx context.Context, c *Config) *dialer {
	return &dialer{config: clientv3.Config{
		Context:              ctx,
		Endpoints:            c.Endpoints,
		TLS:                  c.TLS,
		Username:             c.Username,
		Password:             c.Password,
		DialTimeout:          c.DialTimeout,
		DialKeepAliveTime:    pingInterval,
		DialKeepAliveTimeout: pingTimeout,
		MaxUnaryRetries:      2, // once more with a new token, when the old one has expired; the rest is ours
		Logger:               zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				// gRPC's default grows to two minutes, for which a hub would not see that etcd is back.
				Backoff:           grpcbackoff.Config{BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry},
				MinConnectTimeout: c.DialTimeout,
			}),
			grpc.WithChainUnaryInterceptor(failFast),
		},
	}}
}

// failFast undoes the client's default to wait for a connection until the deadline, and then to say only that
// the deadline is over: why etcd can't be reached (refused, unknown authority) is what an operator needs.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error { //nolint:revive // gRPC's signature
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// get returns the client.
func (d *dialer) get() (*clientv3.Client, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client != nil {
		return d.client, nil
	}
	if err := d.config.Context.Err(); err != nil {
		return nil, ErrClosed
	}
	client, err := clientv3.New(d.config)
	if err != nil {
		return nil, fmt.Errorf("dial etcd: %w", failure(err))
	}
	d.client = client
	return client, nil
}

// close hangs up. The context that newDialer got is done by now, so get makes no other client.
func (d *dialer) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.client == nil {
		return nil
	}
	if err := d.client.Close(); err != nil && d.config.Context.Err() == nil {
		return fmt.Errorf("close etcd client: %w", err)
	}
	return nil
}
