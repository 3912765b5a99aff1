package control

import (
	"encoding/json"
	"strconv"
	"strings"
	"unsafe"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// maxMetadataBytes bounds the bytes of names and values in Message.metadata.
const maxMetadataBytes = 8 << 10

// newMessage translates a checked Message.
func newMessage(namespace string, m *controlv1.Message, from origin) *hub.Message {
	message := &hub.Message{
		ID:          m.GetId(),
		Namespace:   namespace,
		Event:       m.GetEvent(),
		Metadata:    m.GetMetadata(),
		TraceParent: from.traceParent,
	}
	message.Kind, message.Payload = payloadOf(m)
	if m.GetTtl() != nil {
		message.Expires = from.began.Add(m.GetTtl().AsDuration())
	}
	return message
}

// payloadOf returns the kind and the payload of a message; the kind is 0 if it has none. The
// payload shares the memory of m.
func payloadOf(m *controlv1.Message) (hub.PayloadKind, []byte) {
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
	if kind, payload := payloadOf(m); kind == hub.JSON && !json.Valid(payload) {
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
	if bytes > maxMetadataBytes {
		return failure.LimitExceeded("message.metadata",
			"must have at most %d bytes of names and values, has %d", maxMetadataBytes, bytes)
	}
	return nil
}

// traceParentBytes is the length of a traceparent of version 00.
const traceParentBytes = len("00-00000000000000000000000000000000-0000000000000000-00")

// parseTraceParent returns the trace context of a call from the values of its header. As W3C Trace
// Context §4.3 asks, a value that can't be parsed counts as none.
func parseTraceParent(values []string) string {
	if len(values) != 1 || !validTraceParent(values[0]) {
		return ""
	}
	return values[0]
}

// validTraceParent knows version 00 (§3.2): four groups of lower-case hex digits, neither id all
// zero.
func validTraceParent(s string) bool {
	if len(s) != traceParentBytes || !strings.HasPrefix(s, "00-") || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, parent, flags := s[3:35], s[36:52], s[53:]
	for _, part := range []string{trace, parent, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != ""
}
