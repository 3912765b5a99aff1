package form

import (
	"bytes"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// This file encodes and decodes sends of the common kind: a target of names and a payload. For such
// a send the general decoder takes 2.5 times as long, and eight allocations instead of three. Any
// field that is unknown here makes a send uncommon: then these functions return false, and leave a
// part in their result. Tests check that both agree.

// The numbers of the fields that a send of the common kind may have, by message.
// TestFieldNumbersAreThoseOfTheProtos holds each by its descriptor, and
// TestEachFieldOfASendIsForwarded finds a field that the encoder forgets.
const (
	sendsField = 1 // SendStreamRequest

	sequenceField     = 1 // StreamedSend
	streamedSendField = 2

	namespaceField   = 1 // SendRequest
	targetField      = 2
	messageField     = 3
	waitField        = 4
	waitTimeoutField = 5

	connectionsField = 1 // Target
	usersField       = 2
	groupsField      = 3

	idField       = 1 // Message
	textField     = 3
	jsonField     = 4
	binaryField   = 5
	protobufField = 8

	secondsField = 1 // google.protobuf.Duration
	nanosField   = 2
)

// sendParts are the messages in a SendRequest of the common kind, in a single allocation.
type sendParts struct {
	target  controlv1.Target
	message controlv1.Message
	text    controlv1.Message_Text
	name    [1]string // memory of the target's names while there is only a single name
}

// DecodeMessage decodes b into an empty message.
func DecodeMessage(b []byte, into proto.Message) error {
	if decodeCommon(b, into) {
		return nil
	}
	return proto.Unmarshal(b, into)
}

// decodeCommon decodes b into an empty message. It reports false if b is no send of the common
// kind.
func decodeCommon(b []byte, into proto.Message) bool {
	switch m := into.(type) {
	case *controlv1.SendStreamRequest:
		return decodeSends(b, m)
	case *controlv1.SendRequest:
		return decodeSend(b, m, new(sendParts))
	default:
		return false
	}
}

// decodeSends decodes a request of a SendStream.
func decodeSends(b []byte, into *controlv1.SendStreamRequest) bool {
	count := 0
	known := eachField(b, func(f field) bool {
		count++
		return f.number == sendsField && f.isBytes
	})
	if !known || count > MaxStreamedSends {
		return false
	}
	into.Sends = make([]*controlv1.StreamedSend, 0, count)
	return eachField(b, func(f field) bool {
		var one struct {
			streamed controlv1.StreamedSend
			send     controlv1.SendRequest
			sendParts
		}
		into.Sends = append(into.Sends, &one.streamed)
		return eachField(f.bytes, func(f field) bool {
			switch {
			case f.number == sequenceField && !f.isBytes:
				one.streamed.Sequence = int64(f.varint)
				return true
			case f.number == streamedSendField && f.isBytes && one.streamed.Send == nil:
				one.streamed.Send = &one.send
				return decodeSend(f.bytes, &one.send, &one.sendParts)
			default:
				return false
			}
		})
	})
}

// decodeSend decodes a SendRequest. Its messages are in p.
func decodeSend(b []byte, into *controlv1.SendRequest, p *sendParts) bool {
	return eachField(b, func(f field) bool {
		switch {
		case f.number == namespaceField && f.isBytes:
			into.Namespace = string(f.bytes)
			return utf8.Valid(f.bytes)
		case f.number == targetField && f.isBytes && into.Target == nil:
			into.Target = &p.target
			return eachField(f.bytes, p.addName)
		case f.number == messageField && f.isBytes && into.Message == nil:
			into.Message = &p.message
			return eachField(f.bytes, p.addContent)
		case f.number == waitField && !f.isBytes:
			into.Wait = controlv1.Wait(f.varint)
			return true
		case f.number == waitTimeoutField && f.isBytes && into.WaitTimeout == nil:
			into.WaitTimeout = &durationpb.Duration{}
			return decodeDuration(f.bytes, into.WaitTimeout)
		default:
			return false
		}
	})
}

// addName decodes a field of a Target.
func (p *sendParts) addName(f field) bool {
	list := &p.target.Connections
	switch f.number {
	case connectionsField:
	case usersField:
		list = &p.target.Users
	case groupsField:
		list = &p.target.Groups
	default:
		return false
	}
	if !f.isBytes || !utf8.Valid(f.bytes) {
		return false
	}
	if t := &p.target; t.Connections == nil && t.Users == nil && t.Groups == nil {
		*list = p.name[:0]
	}
	*list = append(*list, string(f.bytes))
	return true
}

// addContent decodes a field of a Message.
func (p *sendParts) addContent(f field) bool {
	if !f.isBytes || f.number != idField && p.message.Payload != nil {
		return false
	}
	switch f.number {
	case idField:
		p.message.Id = string(f.bytes)
	case textField:
		p.text.Text = string(f.bytes)
		p.message.Payload = &p.text
	case jsonField:
		p.message.Payload = &controlv1.Message_Json{Json: string(f.bytes)}
	case binaryField:
		p.message.Payload = &controlv1.Message_Binary{Binary: bytes.Clone(f.bytes)}
		return true
	case protobufField:
		p.message.Payload = &controlv1.Message_Protobuf{Protobuf: bytes.Clone(f.bytes)}
		return true
	default:
		return false
	}
	return utf8.Valid(f.bytes)
}

func decodeDuration(b []byte, into *durationpb.Duration) bool {
	return eachField(b, func(f field) bool {
		switch {
		case f.number == secondsField && !f.isBytes:
			into.Seconds = int64(f.varint)
		case f.number == nanosField && !f.isBytes:
			into.Nanos = int32(f.varint)
		default:
			return false
		}
		return true
	})
}

// EncodeSend encodes a send for peers: req with its namespace written out, the id of its message,
// and timeout as its wait_timeout.
func EncodeSend(req *controlv1.SendRequest, id string, timeout time.Duration) ([]byte, error) {
	if b, ok := encodeCommon(req, id, timeout); ok {
		return b, nil
	}
	return proto.Marshal(newForwarded(req, id, timeout))
}

// encodeCommon encodes the request of newForwarded. It reports false if the send is not of the
// common kind.
func encodeCommon(req *controlv1.SendRequest, id string, timeout time.Duration) ([]byte, bool) {
	number, payload, ok := contentOf(req.GetMessage())
	target, named := appendTarget(make([]byte, 0, 256), req.GetTarget())
	if !ok || !named || req.GetOverflowPolicy() != 0 || req.GetConflationKey() != "" ||
		req.GetRequestId() != "" || req.GetDetail() != 0 {
		return nil, false
	}
	namespace := NamespaceOf(req)
	message := 2*protowire.SizeTag(number) +
		protowire.SizeBytes(len(id)) + protowire.SizeBytes(len(payload))
	const most = 64 // for tags, lengths and the rest of the fields
	b := make([]byte, 0, len(namespace)+len(target)+message+most)
	b = appendText(b, namespaceField, namespace)
	b = appendBytes(b, targetField, target)
	b = protowire.AppendTag(b, messageField, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(message)) //nolint:gosec // a size
	b = appendText(b, idField, id)
	b = appendBytes(b, number, payload)
	if wait := req.GetWait(); wait != 0 {
		b = appendVarint(b, waitField, int64(wait))
	}
	d := appendDuration(make([]byte, 0, 32), timeout)
	return appendBytes(b, waitTimeoutField, d), true
}

// payloadFields are the fields of a Message's payload.
var payloadFields = [...]protowire.Number{
	hub.Text: textField, hub.JSON: jsonField, hub.Binary: binaryField, hub.Protobuf: protobufField,
}

// contentOf returns the payload of a message, and the number of its field. It reports false if the
// message has more than an id and a payload.
func contentOf(m *controlv1.Message) (protowire.Number, []byte, bool) {
	kind, payload := PayloadOf(m)
	bare := m.GetEvent() == "" && m.GetTtl() == nil && len(m.GetMetadata()) == 0
	return payloadFields[kind], payload, kind != 0 && bare
}

func appendTarget(b []byte, t *controlv1.Target) ([]byte, bool) {
	if t.GetEveryone() || t.GetExcept() != nil {
		return nil, false
	}
	for _, name := range t.GetConnections() {
		b = appendText(b, connectionsField, name)
	}
	for _, name := range t.GetUsers() {
		b = appendText(b, usersField, name)
	}
	for _, name := range t.GetGroups() {
		b = appendText(b, groupsField, name)
	}
	return b, true
}

func appendText(b []byte, number protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), s)
}

func appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), v)
}

// appendVarint appends a number that is not negative.
func appendVarint(b []byte, number protowire.Number, v int64) []byte {
	b = protowire.AppendTag(b, number, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(v)) //nolint:gosec // it is not negative
}

func appendDuration(b []byte, d time.Duration) []byte {
	b = appendVarint(b, secondsField, int64(d/time.Second))
	return appendVarint(b, nanosField, int64(d%time.Second))
}

// field is a field of a message on the wire, of the two types in a send.
type field struct {
	number  protowire.Number
	isBytes bool
	varint  uint64
	bytes   []byte // part of the message
}

// eachField calls take with each field of a message until take returns false. It reports whether
// take took all.
func eachField(b []byte, take func(field) bool) bool {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		b = b[n:]
		f := field{number: number, isBytes: kind == protowire.BytesType}
		switch kind {
		case protowire.VarintType:
			f.varint, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			return false
		}
		if n < 0 || !take(f) {
			return false
		}
		b = b[n:]
	}
	return true
}

// newForwarded returns the request of a send for peers.
func newForwarded(
	req *controlv1.SendRequest, id string, timeout time.Duration,
) *controlv1.SendRequest {
	return &controlv1.SendRequest{
		Namespace: NamespaceOf(req), Target: req.GetTarget(),
		Message: &controlv1.Message{
			Id: id, Event: req.GetMessage().GetEvent(),
			Payload:  req.GetMessage().GetPayload(),
			Metadata: req.GetMessage().GetMetadata(), Ttl: req.GetMessage().GetTtl(),
		},
		Wait: req.GetWait(), WaitTimeout: durationpb.New(timeout),
		OverflowPolicy: req.GetOverflowPolicy(), ConflationKey: req.GetConflationKey(),
		RequestId: req.GetRequestId(), Detail: req.GetDetail(),
	}
}
