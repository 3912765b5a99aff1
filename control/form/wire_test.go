package form

import (
	"cmp"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// commonSends are sends that are decoded without the general decoder.
func commonSends() []*controlv1.SendRequest {
	payload := func(m *controlv1.Message) *controlv1.SendRequest {
		return &controlv1.SendRequest{Target: users("ann"), Message: m}
	}
	written := to(users("ann", "bob"), "hello")
	written.Wait = controlv1.Wait_WAIT_WRITTEN
	forwarded := to(users("ann"), "hello")
	forwarded.Namespace, forwarded.Message.Id = "games", "hub.1"
	forwarded.WaitTimeout = durationpb.New(1500 * time.Millisecond)
	return []*controlv1.SendRequest{
		{},
		to(users("ann"), "hello"),
		to(users("ann"), ""),
		to(&controlv1.Target{}, "hello"),
		to(&controlv1.Target{Users: []string{""}, Groups: []string{"red", "blue"}}, "grüß dich"),
		to(&controlv1.Target{
			Connections: []string{"c"}, Users: []string{"ann"}, Groups: []string{"red"},
		}, "hello"),
		payload(&controlv1.Message{Payload: &controlv1.Message_Json{Json: "{}"}}),
		payload(&controlv1.Message{Payload: &controlv1.Message_Binary{Binary: []byte{0xff}}}),
		payload(&controlv1.Message{Payload: &controlv1.Message_Binary{}}),
		payload(&controlv1.Message{Payload: &controlv1.Message_Protobuf{Protobuf: []byte{0xff}}}),
		payload(&controlv1.Message{}),
		written,
		forwarded,
	}
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSendsOfTheCommonKindAreDecodedInOnePiece(t *testing.T) {
	for _, want := range commonSends() {
		have := &controlv1.SendRequest{}
		if !decodeCommon(marshal(t, want), have) {
			t.Errorf("%v goes to the general decoder", want)
		}
		if diff := gocmp.Diff(want, have, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	want, have := batch(0, commonSends()...), &controlv1.SendStreamRequest{}
	if !decodeCommon(marshal(t, want), have) {
		t.Error("the request goes to the general decoder")
	}
	if diff := gocmp.Diff(want, have, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// forwardedSends are the sends that a peer gets for requests, of the common kind and of the rest.
func forwardedSends() []*controlv1.SendRequest {
	excepting := to(&controlv1.Target{
		Users: []string{"ann"}, Except: &controlv1.Exclusion{Users: []string{"bob"}},
	}, "hello")
	everyone := to(&controlv1.Target{Everyone: true}, "hello")
	timely := to(users("ann"), "hello")
	timely.Message.Ttl = durationpb.New(time.Second)
	known, detailed, newest := to(users("ann"), "hello"),
		to(users("ann"), "hello"), to(users("ann"), "hello")
	known.RequestId = "r"
	detailed.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
	newest.OverflowPolicy, newest.ConflationKey = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
		"k"
	event, tagged := to(users("ann"), "hello"), to(users("ann"), "hello")
	event.Message.Event = "e"
	tagged.Message.Metadata = map[string]string{"a": "b"}
	return append(commonSends(),
		excepting, everyone, timely, known, detailed, newest, event, tagged)
}

func TestWhatAnotherHubIsSentIsTheSameByBothEncoders(t *testing.T) {
	common := 0
	for _, req := range forwardedSends() {
		for _, timeout := range []time.Duration{0, 1, time.Second, time.Hour + time.Millisecond} {
			want := newForwarded(req, "hub.1", timeout)
			b, ok := encodeCommon(req, "hub.1", timeout)
			if !ok {
				continue
			}
			common++
			have := &controlv1.SendRequest{}
			if err := proto.Unmarshal(b, have); err != nil {
				t.Fatalf("%v: %v", req, err)
			}
			if diff := gocmp.Diff(want, have, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			if !decodeCommon(b, &controlv1.SendRequest{}) {
				t.Errorf("%v goes to the general decoder", want)
			}
		}
	}
	// All but two without a payload, and excepting, timely and tagged.
	if want := 4 * (len(forwardedSends()) - 5); common != want {
		t.Errorf("%d are of the common kind, want %d", common, want)
	}
}

// uncommon are the fields that make a send uncommon.
var uncommon = map[protoreflect.FullName]bool{"connhub.control.v1.Target.except": true}

// A field that a proto gets later makes a send uncommon, which costs time and is easy to miss.
func TestEachFieldOfASendIsOfTheCommonKindOrSaysNot(t *testing.T) {
	for path, set := range fieldsOfSends() {
		req := to(users("ann"), "hello")
		field := set(req)
		have := decodeCommon(marshal(t, req), &controlv1.SendRequest{})
		if have == uncommon[field.FullName()] {
			t.Errorf("with %s a send is of the common kind: %t", path, have)
		}
	}
	req := batch(1, to(users("ann"), "hello"))
	for _, part := range []proto.Message{req, req.GetSends()[0], durationpb.New(time.Second + 1)} {
		fields := part.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			if !part.ProtoReflect().Has(fields.Get(i)) {
				t.Errorf("%s is not on the short way", fields.Get(i).FullName())
			}
		}
	}
}

// A field that a proto gets later is not in wire.go. The decoders leave a request with it to the
// general decoder. The encoder must leave it to the general encoder, which must forward it.
func TestEachFieldOfASendIsForwarded(t *testing.T) {
	onlyEntryHub := protoreflect.Name("require_all_hubs")
	for path, set := range fieldsOfSends() {
		req := to(users("ann"), "hello")
		field := set(req)
		if field.Name() == onlyEntryHub {
			continue
		}
		id := cmp.Or(req.GetMessage().GetId(), "hub.1")
		b, err := EncodeSend(req, id, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		have := &controlv1.SendRequest{}
		if err := proto.Unmarshal(b, have); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		want := proto.CloneOf(req)
		want.Namespace = NamespaceOf(req)
		want.Message.Id = id
		want.WaitTimeout = durationpb.New(time.Second)
		if diff := gocmp.Diff(want, have, protocmp.Transform()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// fieldsOfSends returns a function for each field of a SendRequest, of its target and of its
// message. The function sets the field and returns its descriptor.
func fieldsOfSends() map[string]func(*controlv1.SendRequest) protoreflect.FieldDescriptor {
	all := map[string]func(*controlv1.SendRequest) protoreflect.FieldDescriptor{}
	for _, part := range []func(*controlv1.SendRequest) proto.Message{
		func(req *controlv1.SendRequest) proto.Message { return req },
		func(req *controlv1.SendRequest) proto.Message { return req.GetTarget() },
		func(req *controlv1.SendRequest) proto.Message { return req.GetMessage() },
	} {
		fields := part(to(users("ann"), "hello")).ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			field := fields.Get(i)
			all[string(field.FullName())] = func(
				req *controlv1.SendRequest,
			) protoreflect.FieldDescriptor {
				setField(part(req).ProtoReflect(), field)
				return field
			}
		}
	}
	return all
}

// setField gives a field that is not set a value that is not its default.
func setField(m protoreflect.Message, field protoreflect.FieldDescriptor) {
	switch {
	case m.Has(field):
	case field.IsMap():
		key := protoreflect.ValueOfString("k").MapKey()
		m.Mutable(field).Map().Set(key, protoreflect.ValueOfString("v"))
	case field.IsList():
		m.Mutable(field).List().Append(protoreflect.ValueOfString("x"))
	case field.Message() != nil:
		inner := m.Mutable(field).Message()
		setField(inner, inner.Descriptor().Fields().Get(0))
	default:
		m.Set(field, valueOfKind(field.Kind()))
	}
}

func valueOfKind(kind protoreflect.Kind) protoreflect.Value {
	switch kind {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(1)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1)
	default:
		return protoreflect.ValueOfString("x")
	}
}

func TestMoreSendsThanAStreamTakesAreNotBlownUp(t *testing.T) {
	many := make([]*controlv1.SendRequest, MaxStreamedSends+1)
	if decodeCommon(marshal(t, batch(0, many...)), &controlv1.SendStreamRequest{}) {
		t.Error("each got memory for a whole send")
	}
}

// BenchmarkReadSend decodes and checks a send, as a request of its own.
func BenchmarkReadSend(b *testing.B) {
	v, err := NewValidator()
	if err != nil {
		b.Fatal(err)
	}
	bare := to(users("ann"), "hello, this is a message of some length: 64 bytes or thereabouts")
	rich := proto.CloneOf(bare)
	rich.RequestId, rich.Message.Event = "order-4711", "price"
	rich.Message.Metadata = map[string]string{"tenant": "red"}
	rich.Message.Ttl = durationpb.New(time.Minute)
	for name, send := range map[string]*controlv1.SendRequest{"bare": bare, "rich": rich} {
		wire := marshal(b, send)
		for kind, decode := range map[string]func([]byte, proto.Message) error{
			"short": DecodeMessage, "general": proto.Unmarshal,
		} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					req := &controlv1.SendRequest{}
					if err := decode(wire, req); err != nil {
						b.Fatal(err)
					}
					if err := v.Check(req); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
