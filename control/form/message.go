package form

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// MaxMetadataBytes bounds the bytes of names and values in Message.metadata.
const MaxMetadataBytes = 8 << 10

// NewMessage translates a checked Message. The send with it began at began, for its ttl.
func NewMessage(
	namespace string, m *controlv1.Message, traceParent string, began time.Time,
) *hub.Message {
	message := &hub.Message{
		ID:          m.GetId(),
		Namespace:   namespace,
		Event:       m.GetEvent(),
		Metadata:    m.GetMetadata(),
		TraceParent: traceParent,
	}
	message.Kind, message.Payload = PayloadOf(m)
	if m.GetTtl() != nil {
		message.Expires = began.Add(m.GetTtl().AsDuration())
	}
	return message
}

// PayloadOf returns the kind and the payload of a message; the kind is 0 if it has none. The
// payload shares the memory of m.
func PayloadOf(m *controlv1.Message) (hub.PayloadKind, []byte) {
	switch p := m.GetPayload().(type) {
	case *controlv1.Message_Text:
		return hub.Text, bytesOf(p.Text)
	case *controlv1.Message_Json:
		return hub.JSON, bytesOf(p.Json)
	case *controlv1.Message_Binary:
		return hub.Binary, p.Binary
	case *controlv1.Message_Protobuf:
		return hub.Protobuf, p.Protobuf
	default:
		return 0, nil
	}
}

// checkJSON checks the rule for a payload that its proto can't express.
func checkJSON(m *controlv1.Message) error {
	if kind, payload := PayloadOf(m); kind == hub.JSON && !json.Valid(payload) {
		return failure.InvalidField("message.json", notJSON(string(payload)))
	}
	return nil
}

// scriptObject is JavaScript's text for an object. Node's gRPC libraries send it for an object that
// is given as a string.
const scriptObject = "[object Object]"

// maxShown bounds the bytes of a payload that an error repeats.
const maxShown = 32

// notJSON describes a payload that is no JSON value, and the wanted payload: callers confuse the
// text of a value with the value itself.
func notJSON(payload string) string {
	const wanted = `must be the text of one JSON value (RFC 8259), as "{\"score\":3}"`
	switch {
	case payload == "":
		return wanted + "; is empty"
	case payload == scriptObject:
		return wanted + "; is " + scriptObject +
			", JavaScript's text for an object that was not given to JSON.stringify"
	case len(payload) > maxShown:
		begin := strings.ToValidUTF8(payload[:maxShown], "")
		return wanted + "; begins with " + strconv.Quote(begin)
	default:
		return wanted + "; is " + strconv.Quote(payload)
	}
}

// bytesOf returns the bytes of s without a copy, because there are thousands of payloads a second,
// of up to a megabyte. It is safe, because hub.Message.Payload is constant by contract.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// checkMetadata checks the limit that spans the map. The proto has the rules for its names.
func checkMetadata(m *controlv1.Message) error {
	bytes := 0
	for name, value := range m.GetMetadata() {
		bytes += len(name) + len(value)
	}
	if bytes > MaxMetadataBytes {
		return failure.LimitExceeded("message.metadata",
			"must have at most %d bytes of names and values, has %d", MaxMetadataBytes, bytes)
	}
	return nil
}
