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

// gRPC's own pings find a TCP connection whose remote end is gone. etcd closes a connection that
// pings more often than every 5 s.
const (
	pingInterval = 10 * time.Second
	pingTimeout  = 3 * time.Second
)

// dialer makes the client of a Registry at its first use, not at New. With a password, making the
// client calls etcd, which may not be reachable when a hub starts.
type dialer struct {
	config clientv3.Config // fixed at newDialer; Context ends when the Registry is closed

	turn chan struct{} // a lock that a context can interrupt; it is full while it is held
	// Guarded by turn.
	client *clientv3.Client   // nil: not dialed yet
	hangUp context.CancelFunc // ends the calls of client
}

// newDialer returns a dialer whose client lives until life is done or close is called.
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
		// the second attempt has a new token if the first had an expired token
		MaxUnaryRetries: 2,
		Logger:          zap.NewNop(),
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{
				// gRPC's default waits up to two minutes before it finds that etcd is back.
				Backoff: grpcbackoff.Config{
					BaseDelay: firstRetry, Multiplier: 1.6, Jitter: 0.2, MaxDelay: lastRetry,
				},
				MinConnectTimeout: c.DialTimeout,
			}),
			grpc.WithChainUnaryInterceptor(failFast),
			grpc.WithNoProxy(), // as in all gRPC dials of connhub: docs/operations.md
		},
	}}
}

// failFast makes a call fail as soon as a connection fails, with the cause (refused, unknown
// authority). By default etcd's client waits until the deadline and then reports only that it has
// passed.
func failFast( //nolint:revive // gRPC's signature
	ctx context.Context, method string, req, reply any, cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// getClient returns the client, and dials it at the first call. It returns when ctx is done, so
// that a login that hangs does not delay a shutdown.
func (d *dialer) getClient(ctx context.Context) (*clientv3.Client, error) {
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
	case !stay(): // ctx is done, and has ended the calls of the new client
		if client != nil {
			_ = client.Close()
		}
		return nil, fmt.Errorf("dial etcd: %w", ctx.Err())
	case err != nil:
		hangUp()
		return nil, fmt.Errorf("dial etcd: %w", translateError(err))
	}
	d.client, d.hangUp = client, hangUp
	return client, nil
}

// close closes the client. The caller has ended the life of the dialer before, so getClient dials
// no further client.
func (d *dialer) close() {
	d.turn <- struct{}{} // a login in progress has noticed the end of life, and returns soon
	defer func() { <-d.turn }()
	if d.client != nil {
		d.hangUp()
		_ = d.client.Close() // its only error is that its context is done
	}
}
