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
	// maxAnswerBytes bounds the answer to a Read: 1,000 connections of 128 groups, with names of 1
	// KiB each.
	maxAnswerBytes = 256 << 20
	// keepaliveInterval and keepaliveTimeout find a data or control connection that has died
	// silently while its twin lives. The server treats intervals below 10 s as an attack.
	keepaliveInterval = 20 * time.Second
	keepaliveTimeout  = 5 * time.Second
)

// peerConn connects this hub to a peer, for a single link. Control and data have a connection each,
// so no buffer has a payload ahead of a probe.
type peerConn struct {
	control, data peerv1.PeerServiceClient

	connect func(ctx context.Context, address string) (net.Conn, error)
	conns   [2]*grpc.ClientConn
	refused atomic.Bool // the address refused the latest connection

	mu     sync.Mutex
	closed bool
	wires  []net.Conn // the sockets of conns
}

// newPeerConn returns a peerConn that is not connected yet: the first call connects it.
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

// dialWire connects gRPC to the peer. It uses no proxy, because a hub's address is within the
// cluster.
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

// wasRefused reports whether the address refused the latest connection.
func (p *peerConn) wasRefused() bool { return p.refused.Load() }

// cutWires closes the sockets before gRPC's connections. gRPC would wait 5 s for each stuck socket
// to take its goodbye, and all messages have been sent.
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

// bearer is the secret of this hub for calls to peers.
type bearer struct {
	secret string
	secure bool
}

var _ credentials.PerRPCCredentials = bearer{}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.secret}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials. If peers are dialled without
// TLS, that is the operator's decision.
func (b bearer) RequireTransportSecurity() bool { return b.secure }
