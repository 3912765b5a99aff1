package control

import (
	"context"
	"runtime"
	"sync/atomic"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// heldAnswer is a large answer to a call of one message. It counts for its caller until the transport has written it: the
// caller may not read, and the handler does not wait for that.
type heldAnswer struct {
	message  proto.Message // nil when it was encoded
	account  *account
	bytes    int64
	released atomic.Bool
}

var _ mem.BufferPool = (*heldAnswer)(nil)

// holdAnswer returns the answer for the codec to encode: as it is, or held.
func holdAnswer(ctx context.Context, answer any) (any, error) {
	m, ok := answer.(proto.Message)
	if _, small := answer.(*controlv1.SendResponse); small || !ok {
		return answer, nil
	}
	a := accountOf(ctx)
	bytes := int64(proto.Size(m))
	if a == nil || bytes <= callWeight {
		return answer, nil
	}
	if !a.reserve(bytes) {
		return nil, a.refuse()
	}
	return &heldAnswer{message: m, account: a, bytes: bytes}, nil
}

// encode returns the answer as bytes. The transport gives them back to their pool, which is h, when they are written or the
// stream is over; where it forgets to, the garbage collector does.
func (h *heldAnswer) encode() (mem.BufferSlice, error) {
	b, err := proto.Marshal(h.message)
	h.message = nil
	if err != nil {
		h.release()
		return nil, err
	}
	runtime.AddCleanup(&b, (*heldAnswer).release, h)
	return mem.BufferSlice{mem.NewBuffer(&b, h)}, nil
}

// Get implements mem.BufferPool. Nothing calls it.
func (*heldAnswer) Get(bytes int) *[]byte {
	b := make([]byte, bytes)
	return &b
}

// Put implements mem.BufferPool.
func (h *heldAnswer) Put(*[]byte) { h.release() }

func (h *heldAnswer) release() {
	if !h.released.Swap(true) {
		h.account.release(h.bytes)
	}
}
