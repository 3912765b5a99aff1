package form

import (
	"errors"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// The stream holds some rules of the protos itself, because the general validator takes longer.
func TestTheRulesOfAStreamAreThoseOfItsProto(t *testing.T) {
	rules, err := protovalidate.New(protovalidate.WithFailFast())
	if err != nil {
		t.Fatal(err)
	}
	sequences := []int64{-1 << 63, -1, 0, 1, 2, MaxSequence, MaxSequence + 1, 1<<63 - 1}
	for _, sequence := range sequences {
		holdSame(t, rules, &controlv1.SendStreamRequest{
			Sends: []*controlv1.StreamedSend{{Sequence: sequence}},
		})
	}
	for _, n := range []int{0, 1, MaxStreamedSends, MaxStreamedSends + 1} {
		holdSame(t, rules, batch(1, make([]*controlv1.SendRequest, n)...))
	}
}

func holdSame(t *testing.T, rules protovalidate.Validator, req *controlv1.SendStreamRequest) {
	t.Helper()
	_, have := CheckBatch(req.GetSends(), 0)
	want := rules.Validate(req, protovalidate.WithFilter(protovalidate.FilterFunc(
		func(_ protoreflect.Message, d protoreflect.Descriptor) bool {
			return d.Name() != "send"
		})))
	if (have == nil) != (want == nil) {
		t.Errorf("%d sends: %v, by the proto %v", len(req.GetSends()), have, want)
	}
	if broken, ok := errors.AsType[*protovalidate.ValidationError](want); ok && have != nil {
		by := violationError(broken.Violations[0])
		at := have.(*failure.FieldError).Field //nolint:errorlint // CheckBatch does not wrap it
		if !errors.Is(have, by.Kind) || by.Field != at {
			t.Errorf("%v, by the proto %v", have, by)
		}
	}
}

func TestAPlainSendKeepsAllRules(t *testing.T) {
	v, err := NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.OneOf(rapid.SampledFrom(
		[]string{"", "a", "\x7f", "a\u0085", long(hub.MaxName), long(hub.MaxName + 1)},
	), rapid.String())
	value := rapid.Int32Range(-1, 6)
	namespaces := rapid.SampledFrom([]string{"default", "other", "Bad"})
	messages := rapid.SampledFrom([]*controlv1.Message{
		nil,
		{},
		text(""), text(strings.Repeat("ü", hub.MaxPayload/2)), text(long(hub.MaxPayload + 1)),
		{Payload: &controlv1.Message_Binary{Binary: make([]byte, hub.MaxPayload+1)}},
		{Payload: &controlv1.Message_Protobuf{Protobuf: make([]byte, hub.MaxPayload+1)}},
		{Payload: &controlv1.Message_Json{Json: long(hub.MaxPayload + 1)}},
		{Payload: &controlv1.Message_Json{}},
	})
	changes := []func(*rapid.T, *controlv1.SendRequest){
		func(t *rapid.T, r *controlv1.SendRequest) { r.Message = messages.Draw(t, "message") },
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.Namespace = namespaces.Draw(t, "namespace")
		},
		func(_ *rapid.T, r *controlv1.SendRequest) { r.Target = nil },
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.Wait = controlv1.Wait(value.Draw(t, "wait"))
		},
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.OverflowPolicy = controlv1.OverflowPolicy(value.Draw(t, "policy"))
		},
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.Detail = controlv1.ReceiptDetail(value.Draw(t, "detail"))
		},
		func(t *rapid.T, r *controlv1.SendRequest) { r.ConflationKey = name.Draw(t, "key") },
		func(t *rapid.T, r *controlv1.SendRequest) { r.RequestId = name.Draw(t, "request") },
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.Message = text("x")
			r.Message.Id = name.Draw(t, "id")
		},
		func(t *rapid.T, r *controlv1.SendRequest) {
			r.Message = text("x")
			r.Message.Event = name.Draw(t, "event")
		},
	}
	plain := 0
	rapid.Check(t, func(t *rapid.T) {
		req := to(users("ann"), "x")
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			rapid.SampledFrom(changes).Draw(t, "change")(t, req)
		}
		if !isPlain(req) {
			return
		}
		plain++
		if err := v.rules.Validate(req, skipTargets); err != nil {
			t.Fatalf("%.200v is plain, and %v", req, err)
		}
	})
	if !isPlain(to(users("ann"), "x")) || plain == 0 {
		t.Error("nothing is plain")
	}
}
