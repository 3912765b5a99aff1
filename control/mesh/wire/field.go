package wire

import (
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/internal/protofield"
)

// The types of the fields.
const (
	varint = protofield.Varint
	chunk  = protofield.Chunk
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

// isPlain reports whether a message has no fields of later versions.
func isPlain(m proto.Message) bool { return len(m.ProtoReflect().GetUnknown()) == 0 }
