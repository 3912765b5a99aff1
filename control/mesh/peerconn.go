package mesh

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// maxAnswerBytes bounds the answer to a Read: 1,000 connections of 128 groups with names of a kilobyte each.
	maxAnswerBytes = 256 << 20
	// keepaliveInterval and keepaliveTimeout find a connection that is gone without a word while the other one
	// lives. The server takes shorter intervals than 10 s for an attack.
	keepaliveInterval = 20 * time.Second
	keepaliveTimeout  = 5 * time.Second
)

// peerConn is how a peer is reached, for one link: control and data have a connection each, so that no payload is
// ever before a probe, in no buffer.
type peerConn struct {
	control, data peerv1.PeerServiceClient

	connect func(ctx context.Context, address string) (net.Conn, error)
	conns   [2]*grpc.ClientConn
	refused atomic.Bool // the address refused the connection

	mu     sync.Mutex
	closed bool
	wires  []net.Conn // below conns
}

// newPeerConn connects to nobody yet: the first call does.
func newPeerConn(c *Config, address string) (*peerConn, error) {
	p := &peerConn{connect: c.dial}
	if p.connect == nil {
		p.connect = func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}
	}
	for i := range p.conns {
		conn, err := grpc.NewClient("passthrough:///"+address, p.dialOptions(c)...)
		if err != nil {
			p.cutWires()
			return nil, err
		}
		p.conns[i] = conn
	}
	p.control, p.data = peerv1.NewPeerServiceClient(p.conns[0]),
		peerv1.NewPeerServiceClient(p.conns[1])
	return p, nil
}

func (p *peerConn) dialOptions(c *Config) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if c.TLS != nil {
		transport = credentials.NewTLS(c.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithContextDialer(p.dialWire),
		grpc.WithDisableServiceConfig(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveInterval, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
	}
	if c.Secret != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer{c.Secret, c.TLS != nil}))
	}
	return options
}

// dialWire is gRPC's way to the peer. It goes through no proxy: a hub's address is one of the cluster.
func (p *peerConn) dialWire(ctx context.Context, address string) (net.Conn, error) {
	conn, err := p.connect(ctx, address)
	p.refused.Store(errors.Is(err, syscall.ECONNREFUSED))
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	p.wires = append(p.wires, conn)
	return conn, nil
}

// wasRefused reports whether nobody listens at the address.
func (p *peerConn) wasRefused() bool { return p.refused.Load() }

// cutWires cuts the wires first: gRPC would wait 5 s for each stuck one to take its goodbye, and all that had to be said is said.
func (p *peerConn) cutWires() {
	p.mu.Lock()
	p.closed = true
	for _, wire := range p.wires {
		_ = wire.Close()
	}
	p.mu.Unlock()
	for _, conn := range p.conns {
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// bearer is the secret with which this hub calls others.
type bearer struct {
	secret string
	secure bool
}

var _ credentials.PerRPCCredentials = bearer{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.secret}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials: where peers are dialled without TLS, that was decided
// by whoever runs the hub.
func (b bearer) RequireTransportSecurity() bool { return b.secure }
