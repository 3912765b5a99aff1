package discovery

import (
	"context"
	"fmt"
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
	config clientv3.Config // static; Context is the life of all

	turn chan struct{} // has a token in it while somebody owns the fields below
	// Owned by whose turn it is.
	client *clientv3.Client // nil: not dialed yet
	hangUp context.CancelFunc
}

// newDialer's client lives until life is done or close is called.
func newDialer(life context.Context, c *Config) *dialer {
	return &dialer{turn: make(chan struct{}, 1), config: clientv3.Config{
		Context:              life,
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
			grpc.WithNoProxy(), // as every gRPC dial of connhub: docs/operations.md
		},
	}}
}

// failFast undoes the client's default to wait for a connection until the deadline, and then to say only that
// the deadline is over: why etcd can't be reached (refused, unknown authority) is what an operator needs.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error { //nolint:revive // gRPC's signature
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// get returns the client, when it is there before ctx is done: a login that hangs must not hold up a shutdown.
func (d *dialer) get(ctx context.Context) (*clientv3.Client, error) {
	life := d.config.Context
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-life.Done():
	case <-ctx.Done():
		return nil, fmt.Errorf("dial etcd: %w", ctx.Err())
	}
	switch {
	case life.Err() != nil:
		return nil, ErrClosed
	case d.client != nil:
		return d.client, nil
	}
	config := d.config
	var hangUp context.CancelFunc
	config.Context, hangUp = context.WithCancel(life)
	stay := context.AfterFunc(ctx, hangUp)
	client, err := clientv3.New(config)
	switch {
	case !stay(): // what was made is cut off already
		if client != nil {
			_ = client.Close()
		}
		return nil, fmt.Errorf("dial etcd: %w", ctx.Err())
	case err != nil:
		hangUp()
		return nil, fmt.Errorf("dial etcd: %w", failure(err))
	}
	d.client, d.hangUp = client, hangUp
	return client, nil
}

// close hangs up. The context that newDialer got is done by now, so get makes no other client.
func (d *dialer) close() {
	d.turn <- struct{}{} // at once, or when a login has noticed
	defer func() { <-d.turn }()
	if d.client != nil {
		d.hangUp()
		_ = d.client.Close() // it can only say that its context is done
	}
}
