package wire

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/internal/protofield"
)

// forwardOf returns the Forward of a send.
func forwardOf(sequence uint64) *peerv1.Forward {
	return &peerv1.Forward{
		Sequence: sequence, Caller: "backend", Age: durationpb.New(1500 * time.Millisecond),
		Call: &peerv1.Forward_Send{Send: &peerv1.ForwardSend{
			Request: []byte("a request"), RequestHash: []byte{0xff, 0},
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		}},
	}
}

func requestOf(f *peerv1.Forward) *peerv1.DataRequest {
	return &peerv1.DataRequest{Body: &peerv1.DataRequest_Forward{Forward: f}}
}

func batchOf(forwards ...*peerv1.Forward) *peerv1.DataRequest {
	return &peerv1.DataRequest{
		Body: &peerv1.DataRequest_Batch{Batch: &peerv1.ForwardBatch{Forwards: forwards}},
	}
}

// resultOf returns the result of a send.
func resultOf(sequence uint64) *peerv1.ForwardResult {
	return &peerv1.ForwardResult{
		Sequence: sequence, Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{
			Receipt: &controlv1.Receipt{
				MessageId: "hub.1", Matched: 1, Pending: 2, Queued: 3, QueuedDetached: 4,
				Written: 5, Acked: 6, NotAckable: 1 << 30, Duplicate: true,
			},
			MatchedNames: []byte{0, 0x80},
		}},
	}
}

func responseOf(r *peerv1.ForwardResult) *peerv1.DataResponse {
	return &peerv1.DataResponse{Body: &peerv1.DataResponse_Result{Result: r}}
}

func resultsOf(begun uint64, results ...*peerv1.ForwardResult) *peerv1.DataResponse {
	return &peerv1.DataResponse{Body: &peerv1.DataResponse_Batch{
		Batch: &peerv1.ForwardResultBatch{Begun: begun, Results: results},
	}}
}

// bare are the smallest messages of the common kind.
func bare() (*peerv1.Forward, *peerv1.ForwardResult) {
	return &peerv1.Forward{Call: &peerv1.Forward_Send{Send: &peerv1.ForwardSend{}}},
		&peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}}}
}

// commonMessages are messages of the common kind.
func commonMessages() []proto.Message {
	emptyForward, emptyResult := bare()
	odd, unsure, large := forwardOf(1<<63), resultOf(2), forwardOf(7)
	odd.Age = &durationpb.Duration{Seconds: -1, Nanos: -5}
	unsure.GetSend().Receipt = &controlv1.Receipt{Matched: -1}
	large.GetSend().Request = []byte(strings.Repeat("long ", 4000))
	ageless, young := forwardOf(1), forwardOf(1)
	ageless.Age, young.Age = nil, &durationpb.Duration{}
	forwards := slices.Repeat([]*peerv1.Forward{forwardOf(9)}, MaxBatch)
	return []proto.Message{
		requestOf(forwardOf(1)), requestOf(emptyForward), requestOf(odd), requestOf(large),
		requestOf(ageless), requestOf(young),
		batchOf(forwardOf(1), emptyForward, large, forwardOf(300)), batchOf(), batchOf(forwards...),
		responseOf(resultOf(1)), responseOf(emptyResult), responseOf(unsure),
		resultsOf(0, resultOf(1)), resultsOf(5, resultOf(1), emptyResult, unsure), resultsOf(5),
		resultsOf(0),
	}
}

// uncommonMessages need the general encoder and decoder.
func uncommonMessages() []proto.Message {
	published, dropped := forwardOf(1), resultOf(1)
	published.GetSend().Sender = &peerv1.Sender{User: "ann"}
	dropped.GetSend().Receipt.Dropped = []*controlv1.Dropped{{Count: 1}}
	resent, returned, moving := forwardOf(1), resultOf(1), resultOf(1)
	moved := &peerv1.MoveName{From: "hub", Number: 1, Connection: "hub.1", To: "other", Epoch: 2}
	resent.Resend, moving.GetSend().Receipt.InTransfer = moved, 1
	returned.Moved, returned.Returned = []*peerv1.MoveName{moved}, forwardOf(1)
	join := &peerv1.Forward{Call: &peerv1.Forward_Join{Join: []byte("join")}}
	failed := &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Status{Status: []byte("no")}}
	return []proto.Message{
		&peerv1.DataRequest{}, &peerv1.DataResponse{},
		&peerv1.DataRequest{Body: &peerv1.DataRequest_Hello{Hello: &peerv1.LaneHello{Epoch: 1}}},
		&peerv1.DataResponse{Body: &peerv1.DataResponse_Begun{}},
		&peerv1.DataResponse{Body: &peerv1.DataResponse_Begun{Begun: 5}},
		requestOf(published), requestOf(join), batchOf(forwardOf(1), join), batchOf(published),
		&peerv1.DataRequest{Body: &peerv1.DataRequest_Mark{Mark: moved}},
		&peerv1.DataRequest{Body: &peerv1.DataRequest_Settled{Settled: moved}},
		requestOf(resent), batchOf(forwardOf(1), resent),
		responseOf(returned), resultsOf(1, resultOf(1), returned), responseOf(moving),
		responseOf(dropped), responseOf(failed), resultsOf(1, resultOf(1), failed),
		&peerv1.LaneHello{Epoch: 1}, // no message of a lane
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

// inParts returns b in two buffers, as it may come from the network.
func inParts(b []byte) mem.BufferSlice {
	at := len(b) / 3
	return mem.BufferSlice{mem.SliceBuffer(b[:at]), mem.SliceBuffer(b[at:])}
}

// checkCodec sends a message in both directions between a Codec and the general codec.
func checkCodec(t *testing.T, m proto.Message) {
	t.Helper()
	codec := NewCodec()
	data, err := codec.Marshal(m)
	if err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	encoded, decoded := m.ProtoReflect().New().Interface(), m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(data.Materialize(), encoded); err != nil {
		t.Fatalf("%v: the general decoder: %v", m, err)
	}
	data.Free()
	if diff := cmp.Diff(m, encoded, protocmp.Transform()); diff != "" {
		t.Error("encoded:", diff)
	}
	if err := codec.Unmarshal(inParts(marshal(t, m)), decoded); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	if diff := cmp.Diff(m, decoded, protocmp.Transform()); diff != "" {
		t.Error("decoded:", diff)
	}
}

func TestMessagesOfTheCommonKindAreEncodedAndDecodedHere(t *testing.T) {
	for _, m := range commonMessages() {
		checkCodec(t, m)
		size, common := sizeCommon(m)
		if !common || size != len(appendCommon(nil, m)) {
			t.Errorf("common: %t, %d bytes of %d: %v", common, size, len(appendCommon(nil, m)), m)
		}
		if !decodeCommon(inParts(marshal(t, m)), m.ProtoReflect().New().Interface()) {
			t.Errorf("%v goes to the general decoder", m)
		}
	}
}

func TestAnyOtherMessageIsOfTheGeneralCodec(t *testing.T) {
	for _, m := range uncommonMessages() {
		checkCodec(t, m)
		if _, common := sizeCommon(m); common {
			t.Errorf("common: %v", m)
		}
	}
	caller, trace := forwardOf(1), forwardOf(1)
	caller.Caller, trace.GetSend().TraceParent = "\xff", "\xff"
	for _, m := range []*peerv1.DataRequest{requestOf(caller), batchOf(trace)} {
		if _, err := NewCodec().Marshal(m); err == nil {
			t.Errorf("text that is not UTF-8 was encoded: %v", m)
		}
	}
}

// TestEachFieldIsCarried: a field that a proto gets later is not known here, and is not lost. Nor
// is a field that only a peer of a later version knows.
func TestEachFieldIsCarried(t *testing.T) {
	request := func() proto.Message { return batchOf(forwardOf(1), forwardOf(2)) }
	response := func() proto.Message { return resultsOf(1, resultOf(1), resultOf(2)) }
	last := func(m proto.Message) *peerv1.Forward {
		return m.(*peerv1.DataRequest).GetBatch().GetForwards()[1]
	}
	result := func(m proto.Message) *peerv1.ForwardResult {
		return m.(*peerv1.DataResponse).GetBatch().GetResults()[1]
	}
	for _, tc := range []struct {
		whole func() proto.Message
		part  func(proto.Message) proto.Message
	}{
		{request, func(m proto.Message) proto.Message { return m }},
		{request, func(m proto.Message) proto.Message {
			return m.(*peerv1.DataRequest).GetBatch()
		}},
		{request, func(m proto.Message) proto.Message { return last(m) }},
		{request, func(m proto.Message) proto.Message { return last(m).GetAge() }},
		{request, func(m proto.Message) proto.Message { return last(m).GetSend() }},
		{response, func(m proto.Message) proto.Message { return m }},
		{response, func(m proto.Message) proto.Message {
			return m.(*peerv1.DataResponse).GetBatch()
		}},
		{response, func(m proto.Message) proto.Message { return result(m) }},
		{response, func(m proto.Message) proto.Message { return result(m).GetSend() }},
		{response, func(m proto.Message) proto.Message { return result(m).GetSend().GetReceipt() }},
	} {
		fields := tc.part(tc.whole()).ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			m := tc.whole()
			setField(tc.part(m).ProtoReflect(), fields.Get(i))
			checkCodec(t, m)
		}
		m := tc.whole()
		later := protowire.AppendString(
			protowire.AppendTag(nil, 1000, protowire.BytesType), "later",
		)
		tc.part(m).ProtoReflect().SetUnknown(later)
		checkCodec(t, m)
	}
}

// setField gives a field a value that is not its default.
func setField(m protoreflect.Message, field protoreflect.FieldDescriptor) {
	value := m.NewField(field)
	switch {
	case field.IsList():
		value.List().Append(valueOf(field, value.List().NewElement()))
	case field.IsMap():
		value.Map().Set(
			valueOf(field.MapKey(), protoreflect.Value{}).MapKey(),
			valueOf(field.MapValue(), value.Map().NewValue()),
		)
	default:
		value = valueOf(field, value)
	}
	m.Set(field, value)
}

// valueOf returns a value of a field that is not its default. empty is a value of the field.
func valueOf(field protoreflect.FieldDescriptor, empty protoreflect.Value) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("x"))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(7)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.MessageKind:
		return empty
	default:
		panic(fmt.Sprintf("the test has no value for %s", field.FullName()))
	}
}

// A key that is not the proto's would give a field the value of another.
func TestKeysAreThoseOfTheProtos(t *testing.T) {
	for _, m := range []struct {
		message proto.Message
		keys    map[protoreflect.Name]protofield.Key
	}{
		{&peerv1.DataRequest{}, map[protoreflect.Name]protofield.Key{
			"forward": forwardKey, "batch": forwardsKey,
		}},
		{&peerv1.ForwardBatch{}, map[protoreflect.Name]protofield.Key{
			"forwards": batchedForwardKey,
		}},
		{&peerv1.Forward{}, map[protoreflect.Name]protofield.Key{
			"sequence": sequenceKey, "caller": callerKey, "age": ageKey, "send": sendKey,
		}},
		{&peerv1.ForwardSend{}, map[protoreflect.Name]protofield.Key{
			"request": requestKey, "request_hash": requestHashKey, "trace_parent": traceParentKey,
		}},
		{&durationpb.Duration{}, map[protoreflect.Name]protofield.Key{
			"seconds": protofield.SecondsKey, "nanos": protofield.NanosKey,
		}},
		{&peerv1.DataResponse{}, map[protoreflect.Name]protofield.Key{
			"result": resultKey, "batch": resultsKey,
		}},
		{&peerv1.ForwardResultBatch{}, map[protoreflect.Name]protofield.Key{
			"begun": begunKey, "results": batchedResultKey,
		}},
		{&peerv1.ForwardResult{}, map[protoreflect.Name]protofield.Key{
			"sequence": resultSequenceKey, "send": sendResultKey,
		}},
		{&peerv1.SendResult{}, map[protoreflect.Name]protofield.Key{
			"receipt": receiptKey, "matched_names": matchedNamesKey,
		}},
		{&controlv1.Receipt{}, map[protoreflect.Name]protofield.Key{
			"message_id": messageIDKey, "matched": matchedKey, "pending": pendingKey,
			"queued": queuedKey, "queued_detached": queuedDetachedKey, "written": writtenKey,
			"acked": ackedKey, "not_ackable": notAckableKey, "duplicate": duplicateKey,
		}},
	} {
		d := m.message.ProtoReflect().Descriptor()
		for name, have := range m.keys {
			field := d.Fields().ByName(name)
			if field == nil {
				t.Errorf("%s has no field %s", d.FullName(), name)
				continue
			}
			if want := protofield.KeyOf(field); have != want {
				t.Errorf("%s is %d here, %d in the proto", field.FullName(), have, want)
			}
		}
	}
}

func TestMoreThanABatchIsNotBlownUp(t *testing.T) {
	forward, result := bare()
	for _, m := range []proto.Message{
		batchOf(slices.Repeat([]*peerv1.Forward{forward}, MaxBatch+1)...),
		resultsOf(0, slices.Repeat([]*peerv1.ForwardResult{result}, MaxBatch+1)...),
	} {
		if decodeCommon(inParts(marshal(t, m)), m.ProtoReflect().New().Interface()) {
			t.Errorf("%T: each got memory", m)
		}
	}
}

func FuzzBothDecodersOfLanesAgree(f *testing.F) {
	for _, m := range append(commonMessages(), uncommonMessages()...) {
		b := marshal(f, m)
		f.Add(b)
		f.Add(slices.Concat(b, b)) // fields that come twice, too
	}
	f.Add([]byte{forwardKey, 3, callerKey, 1, 0xff}) // a caller that is not UTF-8
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []struct{ have, want proto.Message }{
			{&peerv1.DataRequest{}, &peerv1.DataRequest{}},
			{&peerv1.DataResponse{}, &peerv1.DataResponse{}},
		} {
			if !decodeCommon(inParts(b), m.have) {
				if proto.Size(m.have) > 0 {
					t.Errorf("%T: what can't be decoded leaves %v", m.have, m.have)
				}
				continue
			}
			if err := proto.Unmarshal(b, m.want); err != nil {
				t.Fatalf("%T: the general decoder says %v", m.want, err)
			}
			if diff := cmp.Diff(m.want, m.have, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			checkCodec(t, m.have)
		}
	})
}

// TestObjectsOfTheDecoder: a send takes an object for its messages and another for its caller, a
// result a single object.
func TestObjectsOfTheDecoder(t *testing.T) {
	f, r := forwardOf(1), resultOf(1)
	f.GetSend().TraceParent, r.GetSend().MatchedNames = "", nil
	r.GetSend().Receipt.MessageId = ""
	forward, result := marshal(t, f), marshal(t, r)
	if n := testing.AllocsPerRun(100, func() { decodeForward(forward, "") }); n > 2 {
		t.Errorf("%v objects for a send", n)
	}
	if n := testing.AllocsPerRun(100, func() { decodeResult(result) }); n > 1 {
		t.Errorf("%v objects for a result", n)
	}
}

// BenchmarkCodec encodes and decodes a message: the call of a send, or its result.
func BenchmarkCodec(b *testing.B) {
	f, r := forwardOf(1), resultOf(1)
	f.GetSend().RequestHash, f.GetSend().TraceParent = nil, ""
	f.GetSend().Request = make([]byte, 200)
	r.GetSend().Receipt = &controlv1.Receipt{Matched: 1, Queued: 1, NotAckable: 1}
	r.GetSend().MatchedNames = nil
	codec := NewCodec()
	for _, kind := range []struct {
		name string
		of   interface {
			Marshal(v any) (mem.BufferSlice, error)
			Unmarshal(data mem.BufferSlice, v any) error
		}
	}{{"here", codec}, {"general", codec.CodecV2}} {
		for name, m := range map[string]proto.Message{
			"send": requestOf(f), "result": responseOf(r),
		} {
			b.Run(name+"/"+kind.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					data, err := kind.of.Marshal(m)
					if err != nil {
						b.Fatal(err)
					}
					var into proto.Message = &peerv1.DataRequest{}
					if name == "result" {
						into = &peerv1.DataResponse{}
					}
					if err := kind.of.Unmarshal(data, into); err != nil {
						b.Fatal(err)
					}
					data.Free()
				}
			})
		}
	}
}
