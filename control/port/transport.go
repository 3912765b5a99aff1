package port

import (
	"crypto/tls"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/connhub/connhub/control/form"
)

const (
	// maxCalls bounds the calls that a connection may have in flight. A backend that waits for acks
	// has many; each holds a request of some megabytes at most. The budget bounds the calls of all
	// connections of a credential: each call weighs CallWeight in it.
	maxCalls = 10_000
	// callWorkers is the number of goroutines that gRPC reuses for calls. A call on them finds a
	// large enough stack: growing a stack costs 5 µs. A stream keeps its worker. A call that finds
	// no free worker has a goroutine of its own.
	callWorkers = 64
	// maxHeaderBytes bounds a call's metadata: a credential, a trace context, and fields of
	// proxies.
	maxHeaderBytes = 32 << 10
	// HandshakeTimeout bounds TLS and HTTP/2 settings of a new connection. Shutdown may go on as
	// long after its context is done, because gRPC ends no handshake before its time.
	HandshakeTimeout = 5 * time.Second

	// MinPingInterval is the least time between the pings of a backend, with a call in flight or
	// without. If a connection pings more often, three times without an answer of the hub between,
	// gRPC ends it with "too_many_pings".
	MinPingInterval = 5 * time.Second
	// PingJitter is by how much a ping may be early: timers and networks are not exact.
	PingJitter = time.Second
	// pingInterval is the time without a word of a backend after which the hub pings it. It finds
	// backends that are gone: behind a NAT or a load balancer that forgot the connection, TCP alone
	// would take hours.
	pingInterval = 30 * time.Second
	// PingTimeout is the time that a backend has to answer a ping.
	PingTimeout = 10 * time.Second
	// IdleTimeout ends connections without a call. A backend's next call opens a connection again.
	IdleTimeout = 15 * time.Minute
)

// ServerOptions returns the options of the gRPC server that g guards. A nil tlsConfig is plain
// text.
func (g *Guard) ServerOptions(tlsConfig *tls.Config) []grpc.ServerOption {
	transport := insecure.NewCredentials()
	if tlsConfig != nil {
		transport = credentials.NewTLS(tlsConfig)
	}
	return []grpc.ServerOption{
		grpc.Creds(countedCredentials{transport, g.gate}),
		grpc.InTapHandle(g.tapHeaders),
		grpc.UnaryInterceptor(g.interceptUnary),
		grpc.StreamInterceptor(g.interceptStream),
		grpc.UnknownServiceHandler(g.refuseUnknown),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(form.MaxRequestBytes),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.InitialWindowSize(StreamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ConnectionTimeout(HandshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: MinPingInterval - PingJitter, PermitWithoutStream: true,
		}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingInterval, Timeout: PingTimeout, MaxConnectionIdle: IdleTimeout,
		}),
		grpc.WaitForHandlers(true), // so that nothing of the server is left after Shutdown
		grpc.NumStreamWorkers(callWorkers),
	}
}
