package wire

import (
	"slices"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
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
	return send != nil && send.GetSender() == nil && isPlain(f) && isPlain(send) &&
		(age == nil || isPlain(age)) &&
		utf8.ValidString(f.GetCaller()) && utf8.ValidString(send.GetTraceParent())
}

func sizeRequest(r *peerv1.DataRequest) int {
	if body, ok := r.GetBody().(*peerv1.DataRequest_Forward); ok {
		return sizeMessage(sizeForward(body.Forward))
	}
	return sizeMessage(sizeForwards(r.GetBatch()))
}

func sizeForwards(b *peerv1.ForwardBatch) (size int) {
	for _, f := range b.GetForwards() {
		size += sizeMessage(sizeForward(f))
	}
	return size
}

func sizeForward(f *peerv1.Forward) int {
	size := sizeNumber(f.GetSequence()) + sizeChunk(len(f.GetCaller())) +
		sizeMessage(sizeSend(f.GetSend()))
	if age := f.GetAge(); age != nil {
		size += sizeMessage(sizeAge(age))
	}
	return size
}

func sizeSend(s *peerv1.ForwardSend) int {
	return sizeChunk(len(s.GetRequest())) + sizeChunk(len(s.GetRequestHash())) +
		sizeChunk(len(s.GetTraceParent()))
}

func sizeAge(d *durationpb.Duration) int {
	seconds, nanos := numbersOf(d)
	return sizeNumber(seconds) + sizeNumber(nanos)
}

// numbersOf returns the numbers of a duration on the wire, where a negative number takes 64 bits.
func numbersOf(d *durationpb.Duration) (seconds, nanos uint64) {
	return uint64(d.GetSeconds()), uint64(int64(d.GetNanos())) //nolint:gosec // that is meant
}

func appendRequest(b []byte, r *peerv1.DataRequest) []byte {
	if body, ok := r.GetBody().(*peerv1.DataRequest_Forward); ok {
		return appendForward(b, forwardKey, body.Forward)
	}
	b = startMessage(b, forwardsKey, sizeForwards(r.GetBatch()))
	for _, f := range r.GetBatch().GetForwards() {
		b = appendForward(b, batchedForwardKey, f)
	}
	return b
}

func appendForward(b []byte, k key, f *peerv1.Forward) []byte {
	b = startMessage(b, k, sizeForward(f))
	b = appendNumber(b, sequenceKey, f.GetSequence())
	b = appendChunk(b, callerKey, f.GetCaller())
	if age := f.GetAge(); age != nil {
		seconds, nanos := numbersOf(age)
		b = startMessage(b, ageKey, sizeAge(age))
		b = appendNumber(b, secondsKey, seconds)
		b = appendNumber(b, nanosKey, nanos)
	}
	send := f.GetSend()
	b = startMessage(b, sendKey, sizeSend(send))
	b = appendChunk(b, requestKey, send.GetRequest())
	b = appendChunk(b, requestHashKey, send.GetRequestHash())
	return appendChunk(b, traceParentKey, send.GetTraceParent())
}

// decodeRequest decodes b into an empty message, which keeps b.
func decodeRequest(b []byte, into *peerv1.DataRequest) bool {
	r := reader{rest: b}
	if !r.next() || len(r.rest) > 0 {
		return false
	}
	switch r.key {
	case forwardKey:
		f, common := decodeForward(r.bytes)
		if common {
			into.Body = &peerv1.DataRequest_Forward{Forward: f}
		}
		return common
	case forwardsKey:
		forwards, common := decodeAll(r.bytes, batchedForwardKey, decodeForward)
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

// decodeAll decodes a list of MaxBatch messages at most, which are the only fields of b.
func decodeAll[T any](b []byte, k key, decode func([]byte) (T, bool)) ([]T, bool) {
	count, counted := 0, reader{rest: b}
	for counted.next() {
		count++
	}
	if count > MaxBatch {
		return nil, false
	}
	all, r := make([]T, 0, count), reader{rest: b}
	for r.next() {
		if r.key != k {
			return nil, false
		}
		one, common := decode(r.bytes)
		if !common {
			return nil, false
		}
		all = append(all, one)
	}
	return all, !r.failed
}

// decodeForward decodes the Forward of a send, which keeps b.
func decodeForward(b []byte) (*peerv1.Forward, bool) {
	var one struct { // a single allocation
		forward peerv1.Forward
		age     durationpb.Duration
		kind    peerv1.Forward_Send
		send    peerv1.ForwardSend
	}
	f, r := &one.forward, reader{rest: b}
	for r.next() {
		switch r.key {
		case sequenceKey:
			f.Sequence = r.number
		case callerKey:
			f.Caller = string(r.bytes)
			r.failed = r.failed || !utf8.Valid(r.bytes)
		case ageKey:
			r.failed = r.failed || f.Age != nil || !decodeAge(r.bytes, &one.age)
			f.Age = &one.age
		case sendKey:
			r.failed = r.failed || f.Call != nil || !decodeSend(r.bytes, &one.send)
			one.kind.Send, f.Call = &one.send, &one.kind
		default:
			return nil, false
		}
		if r.failed {
			return nil, false
		}
	}
	return f, !r.failed && f.Call != nil
}

func decodeAge(b []byte, into *durationpb.Duration) bool {
	r := reader{rest: b}
	for r.next() {
		switch r.key {
		case secondsKey:
			into.Seconds = int64(r.number) //nolint:gosec // as protobuf means it
		case nanosKey:
			into.Nanos = int32(r.number) //nolint:gosec // as protobuf means it
		default:
			return false
		}
	}
	return !r.failed
}

func decodeSend(b []byte, into *peerv1.ForwardSend) bool {
	r := reader{rest: b}
	for r.next() {
		switch r.key {
		case requestKey:
			into.Request = r.bytes
		case requestHashKey:
			into.RequestHash = r.bytes
		case traceParentKey:
			if !utf8.Valid(r.bytes) {
				return false
			}
			into.TraceParent = string(r.bytes)
		default:
			return false
		}
	}
	return !r.failed
}
