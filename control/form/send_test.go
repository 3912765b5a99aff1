package form

import (
	"errors"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
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
