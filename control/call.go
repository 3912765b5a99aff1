package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
)

// call is one call, from its headers on.
//
// Problem: gRPC has one limit for all messages of a server, and tells nobody of a message before it is whole. But a
// stranger may send some KB only, and what all callers together have begun must be bounded.
//
// Outline: beginCall sees the headers in the transport's reader, and gives the call a context of ours: to cancel it
// ends whatever the call waits for in the transport. receive reads messages instead of gRPC: first how long one is,
// then the rest if it may be that long.
type call struct {
	// Static.
	conn     *inbound // nil: it came over none, in a test
	who      auth.Identity
	valid    bool     // its credential is, so who is set
	refused  bool     // its credential has its share of the port, and the connection is one more
	peer     bool     // its method is one between hubs; gRPC reads its messages
	maxBytes int      // of a message
	account  *account // of a backend; nil: nothing is counted
	cancel   context.CancelCauseFunc
	codec    codec

	reading  atomic.Bool // it waits for a message, and must not when the hub leaves
	received atomic.Bool // a message has come

	held atomic.Int64 // of account: the message that is read or was read last
	over atomic.Bool  // the handler has returned

	header [headerBytes]byte // of the message that is read; owned by receive

	// Guarded by inFlight.mu.
	before, after *call
}

// headerBytes is what stands before each message: a flag, and the length.
const headerBytes = 5

type callKey struct{}

// callOf returns the call of a context; nil: there is none.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// connOf returns the connection of a call that a context belongs to; nil: it came over none.
func connOf(ctx context.Context) *inbound {
	if c := callOf(ctx); c != nil {
		return c.conn
	}
	return nil
}

// beginCall implements tap.ServerInHandle: it is called in the transport's reader when the headers of a call have come, and
// waits for nothing. It refuses nothing either: gRPC would not release the context. admit does. A panic here would leave
// the transport locked, and so nothing that ends it would return: a fault of ours costs the call.
func (g *guard) beginCall(ctx context.Context, info *tap.Info) (begun context.Context, err error) {
	defer func() {
		if p := recover(); p != nil {
			begun, err = nil, g.panicked(info.FullMethodName, p)
		}
	}()
	c := &call{conn: inboundOf(ctx), peer: peers(info.FullMethodName), maxBytes: maxRequestBytes, codec: g.codec}
	c.who, c.valid = g.identify(ctx)
	bounds, open := openMethods[info.FullMethodName]
	g.welcome(c, open)
	if open {
		c.maxBytes = bounds.bytes
	}
	if c.valid && c.conn != nil && !c.peer && !open {
		c.account = c.conn.accountOf(c.who.Name, g.budget)
	}
	ctx, c.cancel = context.WithCancelCause(ctx)
	if open {
		timer := time.AfterFunc(bounds.time, func() { c.cancel(context.DeadlineExceeded) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
	return context.WithValue(ctx, callKey{}, c), nil
}

// welcome makes the connection of a call one of its credential. A method that needs none shows one
// only where there are secrets.
func (g *guard) welcome(c *call, open bool) {
	switch {
	case c.conn == nil || open && (g.secrets == nil || !c.valid):
	case !c.valid:
		c.conn.faulted.Store(true)
	case !c.conn.welcome(g.holderOf(c)):
		c.refused = !open
		c.conn.faulted.Store(true)
	}
}

// holderOf returns whose connection one is that such a call came over. Without secrets other hubs
// are told from backends by what they call.
func (g *guard) holderOf(c *call) auth.Identity {
	who := c.who
	if g.secrets == nil && c.peer {
		who.Role = auth.RolePeer
	}
	return who
}

// admitOpen counts a call of a method that needs no credential, until the function that it returns is called.
func (c *call) admitOpen(bounds openBounds) (end func(), _ error) {
	if c == nil || c.conn == nil {
		return func() {}, nil
	}
	if int(c.conn.openCalls.Add(1)) > bounds.calls {
		c.conn.openCalls.Add(-1)
		c.conn.faulted.Store(true)
		return nil, errTooManyOpenCalls
	}
	return func() { c.conn.openCalls.Add(-1) }, nil
}

// transportStream is what gRPC's streams have beside grpc.ServerTransportStream: messages piece by piece. It is not part of
// gRPC's API; TestMessagesAreReadPieceByPiece holds that it is there.
type transportStream interface {
	ReadMessageHeader(header []byte) error
	Read(bytes int) (mem.BufferSlice, error)
	RecvCompress() string
}

// receive reads a message into m, as grpc.ServerStream.RecvMsg does; only: it is the only one of the stream. Errors are io.EOF
// and those that the guard answers.
func (c *call) receive(ctx context.Context, m any, only bool) error {
	stream, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok {
		return errors.New("gRPC's streams have no piece by piece any more")
	}
	c.letGo() // who asks for the next message is done with the one before
	err := c.receiveFrom(ctx, stream, m, !only)
	if errors.Is(err, io.EOF) && only {
		return answeredError{status.Error(codes.Internal, "cardinality violation: received no request message from non-client-streaming RPC")}
	}
	if err == nil && only {
		switch err = stream.ReadMessageHeader(c.header[:]); {
		case errors.Is(err, io.EOF):
			err = nil
		case err == nil:
			return answeredError{status.Error(codes.Internal, "cardinality violation: received multiple request messages for non-client-streaming RPC")}
		}
	}
	if err == nil {
		c.received.Store(true)
	} else if c.conn != nil {
		c.conn.faulted.Store(true) // a stranger's message that does not come whole costs room and time
	}
	return readError(ctx, err)
}

// receiveFrom is receive for one of many messages. patient: it may wait for room in the budget.
func (c *call) receiveFrom(ctx context.Context, stream transportStream, m any, patient bool) error {
	if err := stream.ReadMessageHeader(c.header[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(c.header[1:])
	if int64(length) > int64(c.maxBytes) {
		return tooLarge(int64(length), c.maxBytes)
	}
	if err := c.hold(ctx, int64(length), patient); err != nil {
		return err
	}
	data, err := stream.Read(int(length))
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	defer func() { data.Free() }()
	if c.header[0] != 0 {
		if err := c.hold(ctx, int64(c.maxBytes), patient); err != nil {
			return err
		}
		plain, err := decompress(data, c.header[0], stream.RecvCompress(), c.maxBytes)
		if err != nil {
			return err
		}
		data.Free()
		data = plain
	}
	if err := c.codec.Unmarshal(data, m); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// tooLarge is what gRPC answers to a message over the limit.
func tooLarge(length int64, most int) error {
	return status.Errorf(codes.ResourceExhausted, "grpc: received message larger than max (%d vs. %d)", length, most)
}

// decompress returns a message that came compressed, of maxBytes at most. The flag is 1 for such a message. gRPC has refused
// calls with a compression that is not known.
func decompress(data mem.BufferSlice, flag byte, name string, maxBytes int) (mem.BufferSlice, error) {
	if flag != 1 {
		return nil, status.Errorf(codes.Internal, "grpc: received unexpected payload format %d", flag)
	}
	compressor := encoding.GetCompressor(name)
	if compressor == nil {
		return nil, status.Error(codes.Internal, "grpc: compressed flag set with identity or empty encoding")
	}
	r := data.Reader()
	defer func() { _ = r.Close() }()
	plain, err := compressor.Decompress(r)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: failed to decompress the message: %v", err)
	}
	out, err := mem.ReadAll(io.LimitReader(plain, int64(maxBytes)+1), mem.DefaultBufferPool())
	switch {
	case err != nil:
		out.Free()
		return nil, status.Errorf(codes.Internal, "grpc: failed to decompress the message: %v", err)
	case out.Len() > maxBytes:
		length := out.Len()
		out.Free()
		return nil, tooLarge(int64(length), maxBytes)
	}
	return out, nil
}

// readError turns an error of the transport into one that the guard answers.
func readError(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errTooManyCalls) {
		return err
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, hub.ErrShuttingDown):
		return hub.ErrShuttingDown
	case errors.Is(cause, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return answeredError{status.Error(codes.Internal, err.Error())}
	}
	if _, ok := status.FromError(err); ok {
		return answeredError{err}
	}
	return answeredError{status.Error(codes.Unavailable, err.Error())}
}
