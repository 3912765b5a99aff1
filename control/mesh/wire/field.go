package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// key is the number of a field and its type on the wire, as protobuf encodes both. All numbers here
// are below 16, so a key is a single byte.
type key = byte

// The types of the fields.
const (
	varint = key(protowire.VarintType)
	chunk  = key(protowire.BytesType)
)

// The keys of the fields of the common kind, by message. TestKeysAreThoseOfTheProtos holds each by
// its descriptor.
const (
	forwardKey  = 2<<3 | chunk // DataRequest
	forwardsKey = 4<<3 | chunk

	batchedForwardKey = 1<<3 | chunk // ForwardBatch

	sequenceKey = 1<<3 | varint // Forward
	callerKey   = 2<<3 | chunk
	ageKey      = 3<<3 | chunk
	sendKey     = 4<<3 | chunk

	requestKey     = 1<<3 | chunk // ForwardSend
	requestHashKey = 2<<3 | chunk
	traceParentKey = 3<<3 | chunk

	secondsKey = 1<<3 | varint // google.protobuf.Duration
	nanosKey   = 2<<3 | varint

	resultKey  = 2<<3 | chunk // DataResponse
	resultsKey = 4<<3 | chunk

	begunKey         = 1<<3 | varint // ForwardResultBatch
	batchedResultKey = 2<<3 | chunk

	resultSequenceKey = 1<<3 | varint // ForwardResult
	sendResultKey     = 3<<3 | chunk

	receiptKey      = 1<<3 | chunk // SendResult
	matchedNamesKey = 2<<3 | chunk

	messageIDKey      = 1<<3 | chunk // connhub.control.v1.Receipt
	matchedKey        = 2<<3 | varint
	pendingKey        = 3<<3 | varint
	queuedKey         = 4<<3 | varint
	queuedDetachedKey = 5<<3 | varint
	writtenKey        = 6<<3 | varint
	ackedKey          = 7<<3 | varint
	notAckableKey     = 9<<3 | varint
	duplicateKey      = 10<<3 | varint
)

// reader reads the fields of a message, in their order.
type reader struct {
	rest   []byte
	failed bool // the rest is no field of a key and type that reader knows

	key    key
	number uint64 // the value of a varint
	bytes  []byte // the value of a chunk, a part of the message
}

// next reads the next field. It returns false after the last field, and sets failed before that if
// it can't read on.
func (r *reader) next() bool {
	if len(r.rest) == 0 {
		return false
	}
	r.key = r.rest[0]
	n := -1
	switch r.key & 7 {
	case varint:
		r.number, n = protowire.ConsumeVarint(r.rest[1:])
	case chunk:
		r.bytes, n = protowire.ConsumeBytes(r.rest[1:])
	}
	if n < 0 || r.key >= 1<<7 {
		r.failed = true
		return false
	}
	r.rest = r.rest[1+n:]
	return true
}

// The sizes are in bytes, with the key. A field with its default value takes none, but a message
// does.

func sizeNumber(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeChunk(length int) int {
	if length == 0 {
		return 0
	}
	return sizeMessage(length)
}

func sizeMessage(size int) int { return 1 + protowire.SizeBytes(size) }

func appendNumber(b []byte, k key, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, k), v)
}

func appendChunk[T string | []byte](b []byte, k key, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(startMessage(b, k, len(v)), v...)
}

// startMessage appends the key and the size of a message whose bytes follow.
func startMessage(b []byte, k key, size int) []byte {
	return protowire.AppendVarint(append(b, k), uint64(size)) //nolint:gosec // a size
}

// isPlain reports whether a message has no fields of later versions.
func isPlain(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }
