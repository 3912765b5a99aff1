package wire

import (
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/internal/protofield"
)

// SizeForward returns the size of a Forward in bytes.
func SizeForward(f *peerv1.Forward) int {
	if isCommonForward(f) {
		return sizeForward(f)
	}
	return proto.Size(f)
}

func isCommonRequest(r *peerv1.DataRequest) bool {
	switch body := r.GetBody().(type) {
	case *peerv1.DataRequest_Forward:
		return isPlain(r) && isCommonForward(body.Forward)
	case *peerv1.DataRequest_Batch:
		return isPlain(r) && isPlain(body.Batch) && body.Batch != nil &&
			areAll(body.Batch.GetForwards(), isCommonForward)
	default:
		return false
	}
}

// areAll reports whether is returns true for all of a list.
func areAll[T any](list []T, is func(T) bool) bool {
	return !slices.ContainsFunc(list, func(one T) bool { return !is(one) })
}

func isCommonForward(f *peerv1.Forward) bool {
	kind, ok := f.GetCall().(*peerv1.Forward_Send)
	if !ok {
		return false
	}
	send, age := kind.Send, f.GetAge()
	return send != nil && send.GetSender() == nil && f.GetResend() == nil &&
		isPlain(f) && isPlain(send) &&
		(age == nil || isPlain(age)) &&
		utf8.ValidString(f.GetCaller()) && utf8.ValidString(send.GetTraceParent())
}

func sizeRequest(r *peerv1.DataRequest) int {
	if body, ok := r.GetBody().(*peerv1.DataRequest_Forward); ok {
		return protofield.SizeMessage(sizeForward(body.Forward))
	}
	return protofield.SizeMessage(sizeForwards(r.GetBatch()))
}

func sizeForwards(b *peerv1.ForwardBatch) (size int) {
	for _, f := range b.GetForwards() {
		size += protofield.SizeMessage(sizeForward(f))
	}
	return size
}

func sizeForward(f *peerv1.Forward) int {
	size := protofield.SizeNumber(f.GetSequence()) + protofield.SizeChunk(len(f.GetCaller())) +
		protofield.SizeMessage(sizeSend(f.GetSend()))
	if age := f.GetAge(); age != nil {
		size += protofield.SizeMessage(sizeAge(age))
	}
	return size
}

func sizeSend(s *peerv1.ForwardSend) int {
	return protofield.SizeChunk(len(s.GetRequest())) +
		protofield.SizeChunk(len(s.GetRequestHash())) +
		protofield.SizeChunk(len(s.GetTraceParent()))
}

func sizeAge(d *durationpb.Duration) int {
	seconds, nanos := numbersOf(d)
	return protofield.SizeNumber(seconds) + protofield.SizeNumber(nanos)
}

// numbersOf returns the numbers of a duration on the wire, where a negative number takes 64 bits.
func numbersOf(d *durationpb.Duration) (seconds, nanos uint64) {
	return uint64(d.GetSeconds()), uint64(int64(d.GetNanos())) //nolint:gosec // that is meant
}

func appendRequest(b []byte, r *peerv1.DataRequest) []byte {
	if body, ok := r.GetBody().(*peerv1.DataRequest_Forward); ok {
		return appendForward(b, forwardKey, body.Forward)
	}
	b = protofield.StartMessage(b, forwardsKey, sizeForwards(r.GetBatch()))
	for _, f := range r.GetBatch().GetForwards() {
		b = appendForward(b, batchedForwardKey, f)
	}
	return b
}

func appendForward(b []byte, k protofield.Key, f *peerv1.Forward) []byte {
	b = protofield.StartMessage(b, k, sizeForward(f))
	b = protofield.AppendNumber(b, sequenceKey, f.GetSequence())
	b = protofield.AppendChunk(b, callerKey, f.GetCaller())
	if age := f.GetAge(); age != nil {
		seconds, nanos := numbersOf(age)
		b = protofield.StartMessage(b, ageKey, sizeAge(age))
		b = protofield.AppendNumber(b, protofield.SecondsKey, seconds)
		b = protofield.AppendNumber(b, protofield.NanosKey, nanos)
	}
	send := f.GetSend()
	b = protofield.StartMessage(b, sendKey, sizeSend(send))
	b = protofield.AppendChunk(b, requestKey, send.GetRequest())
	b = protofield.AppendChunk(b, requestHashKey, send.GetRequestHash())
	return protofield.AppendChunk(b, traceParentKey, send.GetTraceParent())
}

// decodeRequest decodes b into an empty message, which keeps b.
func decodeRequest(b []byte, into *peerv1.DataRequest) bool {
	r := protofield.Reader{Rest: b}
	if !r.Next() || len(r.Rest) > 0 {
		return false
	}
	switch r.Key {
	case forwardKey:
		f, common := decodeForward(r.Bytes, "")
		if common {
			into.Body = &peerv1.DataRequest_Forward{Forward: f}
		}
		return common
	case forwardsKey:
		var caller string // as a rule that of all forwards, which then share its memory
		forwards, common := protofield.DecodeAll(
			r.Bytes, batchedForwardKey, MaxBatch, func(b []byte) (*peerv1.Forward, bool) {
				f, common := decodeForward(b, caller)
				caller = f.GetCaller()
				return f, common
			},
		)
		if common {
			into.Body = &peerv1.DataRequest_Batch{
				Batch: &peerv1.ForwardBatch{Forwards: forwards},
			}
		}
		return common
	default:
		return false
	}
}

// decodeForward decodes the Forward of a send, which keeps b. likely may be its caller.
func decodeForward(b []byte, likely string) (*peerv1.Forward, bool) {
	var one struct { // a single allocation
		forward peerv1.Forward
		age     durationpb.Duration
		kind    peerv1.Forward_Send
		send    peerv1.ForwardSend
	}
	f, r := &one.forward, protofield.Reader{Rest: b}
	for r.Next() {
		switch r.Key {
		case sequenceKey:
			f.Sequence = r.Number
		case callerKey:
			if f.Caller = likely; string(r.Bytes) != likely {
				r.Failed = !r.StoreText(&f.Caller)
			}
		case ageKey:
			r.Failed = f.Age != nil || !protofield.DecodeDuration(r.Bytes, &one.age)
			f.Age = &one.age
		case sendKey:
			r.Failed = f.Call != nil || !decodeSend(r.Bytes, &one.send)
			one.kind.Send, f.Call = &one.send, &one.kind
		default:
			return nil, false
		}
		if r.Failed {
			return nil, false
		}
	}
	return f, !r.Failed && f.Call != nil
}

func decodeSend(b []byte, into *peerv1.ForwardSend) bool {
	r := protofield.Reader{Rest: b}
	for r.Next() {
		switch r.Key {
		case requestKey:
			into.Request = r.Bytes
		case requestHashKey:
			into.RequestHash = r.Bytes
		case traceParentKey:
			if !r.StoreText(&into.TraceParent) {
				return false
			}
		default:
			return false
		}
	}
	return !r.Failed
}
