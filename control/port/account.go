package port

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Account counts the bytes of Config.CallBytes that a caller holds: a credential on a connection. A
// service of control.Config.Services counts in it the memory that it keeps for a stream. It is safe
// for concurrent use, and its methods never wait.
type Account struct{ of *account }

// AccountOf returns the account of the caller of a call. It has no bound if ctx is of no call.
func AccountOf(ctx context.Context) Account { return Account{accountOf(ctx)} }

// Reserve takes bytes until Release. It reports false, and takes nothing, if the caller may not
// hold so many more now.
func (a Account) Reserve(bytes int64) bool { return a.of.reserveBytes(bytes) }

// ReserveSpare is Reserve for bytes that the caller can do without. It leaves at least as much room
// for the caller's calls as it has taken.
func (a Account) ReserveSpare(bytes int64) bool { return a.of.reserveSpare(bytes) }

// Refuse counts a refusal, and returns its error.
func (a Account) Refuse() error { return a.of.refuseCall() }

// Release gives reserved bytes back.
func (a Account) Release(bytes int64) { a.of.releaseBytes(bytes) }

// heldStream is the stream of a service with large responses that the caller may not read. The
// bytes of a response beyond unwrittenBytes count for the caller until the transport has written
// them.
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
