package control

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Account is the part of Config.CallBytes that one caller may hold: one credential on one
// connection. A service that the configuration brings (Config.Services) counts in it what it keeps
// for a stream. It is safe for concurrent use, and its methods wait for nothing.
type Account struct{ of *account }

// AccountOf returns the account of the caller of a call. Without a caller it has no bound.
func AccountOf(ctx context.Context) Account { return Account{accountOf(ctx)} }

// Reserve takes bytes until Release. It reports false, and takes nothing, if the caller may not hold
// as much now.
func (a Account) Reserve(bytes int64) bool { return a.of.reserve(bytes) }

// ReserveSpare is Reserve for bytes that the caller can do without: calls of the caller find as much
// room again.
func (a Account) ReserveSpare(bytes int64) bool { return a.of.reserveSpare(bytes) }

// Release gives bytes back that were reserved.
func (a Account) Release(bytes int64) { a.of.release(bytes) }

// heldStream is the stream of a service whose responses may be large and may not be read. What the
// transport keeps of a response beyond unwrittenBytes counts for the caller until it is written.
type heldStream struct {
	grpc.ServerStream

	account *account
}

// holdResponses returns the stream of a call with its responses held. It must be called before the
// first response.
func holdResponses(ss grpc.ServerStream, of *account) (grpc.ServerStream, error) {
	if of == nil {
		return ss, nil
	}
	return heldStream{ss, of}, sendPlain(ss.Context())
}

// SendMsg implements grpc.ServerStream. It waits until the caller may hold the response.
func (s heldStream) SendMsg(m any) error {
	message, ok := m.(proto.Message)
	if !ok {
		return s.ServerStream.SendMsg(m)
	}
	bytes := int64(proto.Size(message)) - unwrittenBytes
	if bytes <= 0 {
		return s.ServerStream.SendMsg(m)
	}
	ctx := s.Context()
	if !s.account.awaitRoom(ctx, bytes) {
		return ctx.Err()
	}
	s.account.keepAnswer(bytes, 0)
	weight := &answerWeight{account: s.account, bytes: bytes}
	return s.ServerStream.SendMsg(&heldAnswer{message: message, weight: weight, gone: ctx.Done()})
}
