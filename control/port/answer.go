package port

import (
	"context"
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// answerRoom is the bytes of an answer that CallWeight covers: the receipt of a send with some
// names.
const answerRoom = 1 << 10

// heldAnswer is the answer to a call of one message, and the buffer that the answer is encoded in.
// The answer counts for its caller, together with its call, until the transport has written it: the
// caller may not read, and the handler does not wait for that.
//
// It is a buffer of its own type, because gRPC returns no small buffer to a pool.
type heldAnswer struct {
	mem.SliceBuffer // the encoded answer

	message proto.Message // nil once encoded
	weight  *answerWeight
	gone    <-chan struct{} // closed when the stream is over

	references atomic.Int32
	uses       atomic.Int32 // calls of Ref
	buffers    [1]mem.Buffer
}

var _ mem.Buffer = (*heldAnswer)(nil)

// answerWeight is the bytes that an answer counts for. It is apart from the answer, which must be
// garbage for its cleanup to run. It is apart from the call, too: the call leads to the transport,
// whose queues may have the answer.
type answerWeight struct {
	account  *account
	bytes    int64
	released atomic.Bool
}

func (w *answerWeight) releaseOnce() {
	if !w.released.Swap(true) {
		w.account.releaseAnswer(w.bytes)
	}
}

// holdAnswer returns the answer of a unary call for the codec to encode: as it is, or held. A held
// answer takes over the CallWeight of its call.
func (c *grpcCall) holdAnswer(ctx context.Context, answer any) (any, error) {
	m, ok := answer.(proto.Message)
	a := c.account
	if a == nil || !ok {
		return answer, nil
	}
	if err := sendPlain(ctx); err != nil {
		return nil, err
	}
	more := max(0, int64(proto.Size(m))-answerRoom)
	if !a.keepAnswer(CallWeight, more) {
		return nil, a.refuseCall()
	}
	w := &answerWeight{account: a, bytes: CallWeight + more}
	return &heldAnswer{message: m, weight: w, gone: ctx.Done()}, nil
}

// sendPlain turns off the compression of the answer to a caller that compresses: the hub could not
// learn when the compressed copy is written.
func sendPlain(ctx context.Context) error {
	s, ok := grpc.ServerTransportStreamFromContext(ctx).(transportStream)
	if !ok || s.RecvCompress() == "" {
		return nil
	}
	return grpc.SetSendCompressor(ctx, encoding.Identity)
}

// encodeMessage returns the encoded answer. The transport frees it when it is written or the stream
// is over.
func (h *heldAnswer) encodeMessage() (mem.BufferSlice, error) {
	b, err := proto.MarshalOptions{UseCachedSize: true}.Marshal(h.message) // it was weighed before
	h.message = nil
	if err != nil {
		h.weight.releaseOnce()
		return nil, err
	}
	h.SliceBuffer = b
	h.references.Store(1)
	h.buffers[0] = h
	return h.buffers[:], nil
}

// Ref implements mem.Buffer.
func (h *heldAnswer) Ref() {
	h.uses.Add(1)
	h.references.Add(1)
}

// Free implements mem.Buffer.
//
// The transport first refers to an answer when it queues it, and again when it begins to write it.
// It forgets an answer that it queues after the end of the stream; then the garbage collector finds
// it.
func (h *heldAnswer) Free() {
	if h.references.Add(-1) == 0 {
		h.weight.releaseOnce()
		return
	}
	if h.uses.Load() > 1 {
		return
	}
	select {
	case <-h.gone:
		runtime.AddCleanup(h, (*answerWeight).releaseOnce, h.weight)
	default:
	}
}
