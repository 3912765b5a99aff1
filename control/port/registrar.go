package port

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh/wire"
	"github.com/connhub/connhub/hub"
)

// registrar registers services so that the guard admits a call before its message is read and
// decoded. gRPC's generated code decodes first: a stranger could make the hub parse megabytes, and
// the error of a broken message would bypass the guard.
type registrar struct {
	server *grpc.Server
	guard  *Guard
	checks Checks
}

// Checks says which messages of a service the guard checks against the rules in the protos.
type Checks int

// NoChecks: none, because the service checks its messages itself. CheckCalls: the requests of calls
// of one message. CheckAll: the messages of streams too.
const (
	NoChecks Checks = iota
	CheckCalls
	CheckAll
)

// Registrar returns a registrar for the services of server, whose calls g guards.
func (g *Guard) Registrar(server *grpc.Server, checks Checks) grpc.ServiceRegistrar {
	return registrar{server, g, checks}
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	guarded := *desc
	guarded.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, method := range desc.Methods {
		fullMethod := "/" + desc.ServiceName + "/" + method.MethodName
		r.guard.unaries[fullMethod] = true
		info := &grpc.UnaryServerInfo{Server: impl, FullMethod: fullMethod}
		guarded.Methods[i] = grpc.MethodDesc{
			MethodName: method.MethodName, Handler: r.guardHandler(method.Handler, info),
		}
	}
	if r.checks == CheckAll {
		guarded.Streams = r.checkStreams(desc.Streams)
	}
	r.server.RegisterService(&guarded, impl)
}

// checkStreams returns streams whose services get only valid messages.
func (r registrar) checkStreams(streams []grpc.StreamDesc) []grpc.StreamDesc {
	checked := slices.Clone(streams)
	for i := range checked {
		handler := checked[i].Handler
		checked[i].Handler = func(srv any, stream grpc.ServerStream) error {
			return handler(srv, &checkedStream{stream, r.guard.check})
		}
	}
	return checked
}

// checkedStream is a stream that checks its messages against the rules in the protos.
type checkedStream struct {
	grpc.ServerStream

	validator *form.Validator
}

// RecvMsg implements grpc.ServerStream. The guard answers its errors.
func (s *checkedStream) RecvMsg(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return s.ServerStream.RecvMsg(m)
	}
	if err := Receive(s.ServerStream, message); err != nil {
		return err
	}
	return s.validator.Check(message)
}

// guardHandler returns a handler that runs the server's interceptor first. Its request is the
// function that reads and checks the call's message. Within it runs the generated handler, which
// calls that function.
//
// So a call makes a single function here. The generated handler would make three more objects for
// an interceptor of its own.
func (r registrar) guardHandler(
	generated grpc.MethodHandler, info *grpc.UnaryServerInfo,
) grpc.MethodHandler {
	handle := func(ctx context.Context, read any) (any, error) {
		return generated(info.Server, ctx, read.(func(any) error), nil)
	}
	g, isChecked := r.guard, r.checks != NoChecks
	return func(
		_ any, ctx context.Context, read func(any) error, guard grpc.UnaryServerInterceptor,
	) (any, error) {
		readChecked := func(req any) error {
			message := req.(proto.Message)
			if err := g.readOnly(ctx, read, message); err != nil || !isChecked {
				return err
			}
			return g.check.Check(message)
		}
		return guard(ctx, readChecked, info, handle)
	}
}

// readOnly reads the only message of a call into m. read is gRPC's function for that.
func (g *Guard) readOnly(ctx context.Context, read func(any) error, m proto.Message) error {
	frame := decodedMessage{message: m}
	c := callOf(ctx)
	if c.Context == nil || c.peer {
		if err := read(&frame); err != nil {
			return answeredError{err}
		}
		return frame.err
	}
	c.stream, _ = grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	g.calls.beginReading(c)
	err := c.receiveMessage(ctx, &frame, true)
	if !g.calls.endReading(c) {
		return hub.ErrShuttingDown
	}
	if err != nil {
		return err
	}
	return frame.err
}

// Receive reads the next message of a stream into m. It returns io.EOF after the last message; the
// guard answers any other error, if the handler returns it.
func Receive(stream grpc.ServerStream, m proto.Message) error {
	frame := decodedMessage{message: m}
	if err := stream.RecvMsg(&frame); err != nil {
		return err
	}
	return frame.err
}

// answeredError is an error of reading a request from the wire: the request is too large, or the
// caller is gone. The guard answers with its status as it is.
type answeredError struct{ error }

// Answered returns an error whose status the guard answers as it is. err must be a status.
func Answered(err error) error { return answeredError{err} }

// decodedMessage is a message and the error of decoding it. gRPC answers an error of its codec with
// INTERNAL, but a message that can't be decoded is the caller's fault.
type decodedMessage struct {
	message proto.Message
	err     error
}

// codec is the codec of peers, which knows any protobuf. It also decodes decodedMessage and encodes
// heldAnswer.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{wire.NewCodec()} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if h, ok := v.(*heldAnswer); ok {
		return h.encodeMessage()
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	frame, ok := v.(*decodedMessage)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	b := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer b.Free()
	if form.DecodeMessage(b.ReadOnlyData(), frame.message) != nil {
		frame.err = failure.InvalidField("",
			"the request is not a protobuf message of its type, or has text that is not UTF-8")
	}
	return nil
}
