package port

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/hub"
)

// grpcCall is a call of the API, from its headers on.
//
// Problem: gRPC has a single limit for all messages of a server, and shows a message only when it
// is whole. But a stranger may send only some KB, and the memory of all begun messages must be
// bounded.
//
// Outline: tapHeaders sees the headers in the transport's reader, and makes the call, which is the
// context of all its work. receiveMessage reads messages instead of gRPC: first the length of a
// message, then the rest if the message may be that long.
//
// The hub ends a stream, and a call of a method that needs no credential, by cancel: that ends any
// wait of the call in the transport. A context to cancel costs some 450 bytes, so the unary calls
// with a credential have none. The hub ends such a call, while it waits for its message, by writing
// its status.
type grpcCall struct {
	context.Context // of the transport's stream; nil in a test

	// Static.
	conn     *inbound // nil: in a test without a transport
	identity auth.Identity
	// valid: identity is set, from a valid credential. refused: the connection would exceed the
	// share of the credential. peer: the method is for hubs, and gRPC reads its messages. open: the
	// method needs no credential.
	valid, refused, peer, open bool

	maxBytes    int                     // of a message
	account     *account                // of a backend; nil: nothing is counted
	traceParent string                  // valid; empty: there is none
	cancel      context.CancelCauseFunc // nil: the call can't be cancelled
	codec       codec

	stream   transportStream // set before a message is read; nil: a gRPC without transportStream
	reading  atomic.Bool     // the call waits for its only message, and the hub may end it
	received atomic.Bool     // a message has come

	held atomic.Int64 // bytes of account, for the last message
	over atomic.Bool  // the handler has returned

	header [headerBytes]byte // of the current message; owned by receiveMessage

	// Guarded by inFlight.mu.
	before, after *grpcCall
}

// headerBytes is the length of a message's prefix: a flag of 1 byte, and the length of 4 bytes.
const headerBytes = 5

type callKey struct{}

// Value implements context.Context.
func (c *grpcCall) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// callOf returns the call of a context. In a test without a call it returns an empty call.
func callOf(ctx context.Context) *grpcCall {
	if c, ok := ctx.Value(callKey{}).(*grpcCall); ok {
		return c
	}
	return &grpcCall{}
}

// Caller is the caller of a call.
type Caller struct {
	Name        string // of its credential
	TraceParent string // valid, of W3C Trace Context; empty: the call has none
}

// CallerOf returns the caller of a call; the zero Caller if ctx is of no call.
func CallerOf(ctx context.Context) Caller {
	c := callOf(ctx)
	return Caller{Name: c.identity.Name, TraceParent: c.traceParent}
}

// tapHeaders implements tap.ServerInHandle. The transport's reader calls it when the headers of a
// call have come, so it waits for nothing. It refuses nothing either, because gRPC would not
// release the context; admitCall does. A panic here would leave the transport locked for good, so
// tapHeaders recovers: the fault costs only the call.
func (g *Guard) tapHeaders(ctx context.Context, info *tap.Info) (begun context.Context, err error) {
	defer func() {
		if p := recover(); p != nil {
			begun, err = nil, g.AnswerPanic(info.FullMethodName, p)
		}
	}()
	bounds, open := OpenMethods[info.FullMethodName]
	c := &grpcCall{
		Context: ctx, conn: inboundOf(ctx), codec: g.codec, open: open,
		maxBytes:    form.MaxRequestBytes,
		peer:        isPeerMethod(info.FullMethodName),
		traceParent: parseTraceParent(info.Header["traceparent"]),
	}
	c.identity, c.valid = g.identifyCaller(info.Header["authorization"])
	g.noteCredential(c, open)
	if c.valid && c.conn != nil && !c.peer && !open {
		c.account = c.conn.accountFor(c.identity.Name, g.budget)
	}
	if open || !g.unaries[info.FullMethodName] {
		c.Context, c.cancel = context.WithCancelCause(ctx)
	}
	if open {
		c.maxBytes = bounds.Bytes
		timer := time.AfterFunc(bounds.Time, func() { c.cancel(context.DeadlineExceeded) })
		context.AfterFunc(c.Context, func() { timer.Stop() })
	}
	return c, nil
}

// noteCredential makes the connection of a call known by the credential of the call. For a method
// that needs no credential it does so only if the hub has secrets.
func (g *Guard) noteCredential(c *grpcCall, open bool) {
	switch {
	case c.conn == nil || open && (g.secrets == nil || !c.valid):
	case !c.valid:
		c.conn.faulted.Store(true)
	case !c.conn.becomeKnown(g.holderOf(c)):
		c.refused = !open
		c.conn.faulted.Store(true)
	}
}

// holderOf returns the credential that a call's connection belongs to. Without secrets the called
// method tells peers from backends.
func (g *Guard) holderOf(c *grpcCall) auth.Identity {
	identity := c.identity
	if g.secrets == nil && c.peer {
		identity.Role = auth.RolePeer
	}
	return identity
}

// admitOpen counts a call of a method that needs no credential, until end is called.
func (c *grpcCall) admitOpen(bounds OpenBounds) (end func(), _ error) {
	if c.conn == nil {
		return func() {}, nil
	}
	if int(c.conn.openCalls.Add(1)) > bounds.Calls {
		c.conn.openCalls.Add(-1)
		c.conn.faulted.Store(true)
		return nil, failure.ErrTooManyOpenCalls
	}
	return func() { c.conn.openCalls.Add(-1) }, nil
}

// transportStream has the methods of gRPC's streams beside grpc.ServerTransportStream, for messages
// piece by piece. It is not part of gRPC's API; TestMessagesAreReadPieceByPiece checks that it is
// there.
type transportStream interface {
	ReadMessageHeader(header []byte) error
	Read(bytes int) (mem.BufferSlice, error)
	RecvCompress() string
	WriteStatus(st *status.Status) error // ends the stream
}

// endWaiting ends a call that waits for its only message, because the hub leaves. Such a call has
// written nothing.
func (c *grpcCall) endWaiting() {
	if c.reading.CompareAndSwap(true, false) {
		// An error says that the connection is over.
		_ = c.stream.WriteStatus(status.Convert(failure.ToStatus(hub.ErrShuttingDown)))
	}
}

// receiveMessage reads a message into m, as grpc.ServerStream.RecvMsg does. only means that the
// stream has a single message. The error is io.EOF, or the guard answers it.
func (c *grpcCall) receiveMessage(ctx context.Context, m any, only bool) error {
	if c.stream == nil {
		return errors.New("gRPC's streams have no piece by piece any more")
	}
	c.releaseMessage() // the reader of the next message is done with the last
	err := c.receiveFrom(ctx, m, !only)
	if errors.Is(err, io.EOF) && only {
		return answeredError{status.Error(codes.Internal,
			"cardinality violation: received no request message from non-client-streaming RPC")}
	}
	if err == nil && only {
		switch err = c.stream.ReadMessageHeader(c.header[:]); {
		case errors.Is(err, io.EOF):
			err = nil
		case err == nil:
			return answeredError{status.Error(codes.Internal, "cardinality violation: "+
				"received multiple request messages for non-client-streaming RPC")}
		}
	}
	if err == nil {
		c.received.Store(true)
	} else if c.conn != nil {
		// a stranger's incomplete message costs room and time
		c.conn.faulted.Store(true)
	}
	return readError(ctx, err)
}

// receiveFrom is receiveMessage without its checks for a single message. patient: it may wait for
// room in the budget.
func (c *grpcCall) receiveFrom(ctx context.Context, m any, patient bool) error {
	if err := c.stream.ReadMessageHeader(c.header[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(c.header[1:])
	if int64(length) > int64(c.maxBytes) {
		return tooLarge(int64(length), c.maxBytes)
	}
	if err := c.holdMessage(ctx, int64(length), patient); err != nil {
		return err
	}
	data, err := c.stream.Read(int(length))
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	defer func() { data.Free() }()
	if c.header[0] != 0 {
		if err := c.holdMessage(ctx, int64(c.maxBytes), patient); err != nil {
			return err
		}
		plain, err := decompressMessage(data, c.header[0], c.stream.RecvCompress(), c.maxBytes)
		if err != nil {
			return err
		}
		data.Free()
		data = plain
	}
	if err := c.codec.Unmarshal(data, m); err != nil {
		return status.Errorf(codes.Internal,
			"grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// tooLarge returns gRPC's answer to a message over the limit.
func tooLarge(length int64, most int) error {
	return status.Errorf(codes.ResourceExhausted,
		"grpc: received message larger than max (%d vs. %d)", length, most)
}

// decompressMessage decompresses a message, to maxBytes at most. Its flag must be 1. gRPC has
// refused calls with an unknown compression.
func decompressMessage(
	data mem.BufferSlice, flag byte, name string, maxBytes int,
) (mem.BufferSlice, error) {
	if flag != 1 {
		return nil, status.Errorf(codes.Internal,
			"grpc: received unexpected payload format %d", flag)
	}
	compressor := encoding.GetCompressor(name)
	if compressor == nil {
		return nil, status.Error(codes.Internal,
			"grpc: compressed flag set with identity or empty encoding")
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

// readError turns an error of the transport into an error that the guard answers.
func readError(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, failure.ErrTooManyCalls) {
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
