package form

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

var inputCount = flag.Uint64("inputs", 20_000, "inputs that both decoders get")

func TestBothDecodersAgreeOnAllInputs(t *testing.T) {
	common := uint64(0)
	for seed := range *inputCount {
		var have, want proto.Message = &controlv1.SendRequest{}, &controlv1.SendRequest{}
		if seed/2%2 == 1 {
			have, want = &controlv1.SendStreamRequest{}, &controlv1.SendStreamRequest{}
		}
		b := newInputs(seed).nextInput(want.ProtoReflect().Descriptor())
		isCommon, err := holdSameDecoded(b, have, want)
		if err != nil {
			t.Fatalf("input %d: %v", seed, err)
		}
		if isCommon {
			common++
		}
	}
	t.Logf("%d of %d inputs are of the common kind", common, *inputCount)
	if common < *inputCount/8 {
		t.Error("too few are of the common kind to prove anything")
	}
}

func FuzzBothDecodersOfSendsAgree(f *testing.F) {
	add := func(b []byte) { f.Add(b); f.Add(slices.Concat(b, b)) } // fields that come twice, too
	for _, send := range forwardedSends() {
		add(marshal(f, send))
		add(marshal(f, batch(0, send)))
	}
	for seed := range uint64(32) {
		add(newInputs(seed).nextInput((&controlv1.SendRequest{}).ProtoReflect().Descriptor()))
	}
	add([]byte{0x12, 0x03, 0x12, 0x01, 0xff}) // a user that is not UTF-8
	add([]byte{0x0a, 0x01, 0xff})             // such a namespace
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []struct{ have, want proto.Message }{
			{&controlv1.SendRequest{}, &controlv1.SendRequest{}},
			{&controlv1.SendStreamRequest{}, &controlv1.SendStreamRequest{}},
		} {
			if _, err := holdSameDecoded(b, m.have, m.want); err != nil {
				t.Error(err)
			}
		}
	})
}

// holdSameDecoded decodes b twice. It returns an error unless both verdicts and both messages are
// the same. isCommon: b did not need the general decoder.
func holdSameDecoded(b []byte, have, want proto.Message) (isCommon bool, _ error) {
	isCommon = decodeCommon(b, have)
	var err error
	if !isCommon {
		err = DecodeMessage(b, have)
	}
	wantErr := proto.Unmarshal(b, want)
	switch {
	case (err == nil) != (wantErr == nil):
		return isCommon, fmt.Errorf("%T %x: %w, by the general decoder %w", want, b, err, wantErr)
	case err == nil && !proto.Equal(want, have):
		return isCommon, fmt.Errorf("%x is decoded as\n%v, by the general decoder as\n%v",
			b, have, want)
	}
	return isCommon, nil
}

// ruleSets are our rules for a send, and those of the protos alone.
type ruleSets struct {
	ours  *Validator
	proto protovalidate.Validator // names all violations
}

func newRuleSets(t testing.TB) ruleSets {
	t.Helper()
	ours, err := NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	all, err := protovalidate.New(protovalidate.WithMessages(&controlv1.SendRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return ruleSets{ours, all}
}

// holdSame returns an error unless a send breaks our rules as it breaks those of the protos, at a
// field that the protos name. right: it breaks none.
func (r ruleSets) holdSame(req *controlv1.SendRequest) (right bool, _ error) {
	fields := fieldsBeyondRules(req)
	want := r.proto.Validate(req)
	broken, ok := errors.AsType[*protovalidate.ValidationError](want)
	if want != nil && !ok {
		return false, want
	}
	elsewhere := false
	if ok {
		for _, v := range broken.Violations {
			fields = append(fields, fieldPath(v))
			elsewhere = elsewhere || !strings.HasPrefix(fieldPath(v), "target.")
		}
	}
	if have := keepsRules(req); have == elsewhere && isUsual(req) || have && elsewhere {
		return false, fmt.Errorf("%.400v keeps the rules: %t; %w", req, have, want)
	}
	err := r.ours.Check(req)
	if err == nil && len(fields) == 0 {
		return true, nil
	}
	at, ok := errors.AsType[*failure.FieldError](err)
	if !ok || !slices.Contains(fields, at.Field) {
		return false, fmt.Errorf("%.400v: %w, by the proto %v", req, err, fields)
	}
	return false, nil
}

// fieldsBeyondRules returns the fields that break rules which the protos can't express.
func fieldsBeyondRules(req *controlv1.SendRequest) (fields []string) {
	if req.GetTarget() != nil && namesNothing(req.GetTarget()) {
		fields = append(fields, "target")
	}
	if checkMetadata(req.GetMessage()) != nil {
		fields = append(fields, "message.metadata")
	}
	return fields
}

// isUsual reports whether the durations of a send are as the libraries of protobuf make them. Those
// with seconds and nanos of different signs go to the general validator.
func isUsual(req *controlv1.SendRequest) bool {
	for _, d := range []*durationpb.Duration{req.GetWaitTimeout(), req.GetMessage().GetTtl()} {
		if d != nil && !d.IsValid() {
			return false
		}
	}
	return true
}

func TestBothRuleSetsOfSendsAgree(t *testing.T) {
	rules := newRuleSets(t)
	right := uint64(0)
	count := *inputCount / 20
	for seed := range count {
		req := &controlv1.SendRequest{}
		b := newInputs(2 * seed).nextInput(req.ProtoReflect().Descriptor())
		if err := proto.Unmarshal(b, req); err != nil {
			t.Fatalf("input %d: %v", seed, err)
		}
		isRight, err := rules.holdSame(req)
		if err != nil {
			t.Fatalf("input %d: %v", seed, err)
		}
		if isRight {
			right++
		}
	}
	t.Logf("%d of %d sends keep the rules", right, count)
	if right < count/20 || right > count-count/20 {
		t.Error("too few to prove anything")
	}
}

func TestBothRuleSetsAgreeOnTheLimitsOfPayloads(t *testing.T) {
	rules := newRuleSets(t)
	for _, m := range []*controlv1.Message{
		nil,
		{},
		text(""), text(strings.Repeat("ü", hub.MaxPayload/2)), text(long(hub.MaxPayload + 1)),
		{Payload: &controlv1.Message_Binary{Binary: make([]byte, hub.MaxPayload)}},
		{Payload: &controlv1.Message_Binary{Binary: make([]byte, hub.MaxPayload+1)}},
		{Payload: &controlv1.Message_Protobuf{Protobuf: make([]byte, hub.MaxPayload+1)}},
		{Payload: &controlv1.Message_Json{Json: long(hub.MaxPayload + 1)}},
		{Payload: &controlv1.Message_Json{}},
	} {
		req := &controlv1.SendRequest{Target: users("ann"), Message: m}
		if _, err := rules.holdSame(req); err != nil {
			t.Error(err)
		}
	}
}

func FuzzBothRuleSetsOfSendsAgree(f *testing.F) {
	for _, send := range forwardedSends() {
		f.Add(marshal(f, send))
	}
	rules := newRuleSets(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		req := &controlv1.SendRequest{}
		if proto.Unmarshal(b, req) != nil {
			return
		}
		if _, err := rules.holdSame(req); err != nil {
			t.Error(err)
		}
	})
}
