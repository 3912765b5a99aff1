package form

import (
	"errors"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

func TestTargetKeepsEveryPart(t *testing.T) {
	have := NewTarget(&controlv1.Target{
		Connections: []string{"c"}, Users: []string{"u"}, Groups: []string{"g"}, Everyone: true,
		Except: &controlv1.Exclusion{
			Connections: []string{"xc"}, Users: []string{"xu"}, Groups: []string{"xg"},
		},
	})
	want := hub.Target{
		Connections: []string{"c"}, Users: []string{"u"}, Groups: []string{"g"}, Everyone: true,
		Except: hub.Exclusion{
			Connections: []string{"xc"}, Users: []string{"xu"}, Groups: []string{"xg"},
		},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// The rules for a Target are held in Go for their speed, and stand in the proto for callers: both
// must say the same.
func TestTargetRulesAgreeWithTheProto(t *testing.T) {
	v, err := NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	name := rapid.OneOf(
		rapid.StringN(0, 5, -1),
		rapid.Map(rapid.Rune(), func(r rune) string { return string(r) }),
		rapid.SampledFrom([]string{
			"", "\x00", "\x1f", " ", "\x7f", "\u0080", "\u009f", "\u00a0", "\u2028", "\ufeff",
			strings.Repeat("x", hub.MaxName), strings.Repeat("x", hub.MaxName+1),
			strings.Repeat("€", hub.MaxName/3), strings.Repeat("€", hub.MaxName/3+1),
		}),
	)
	names := rapid.SliceOfN(name, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		target := &controlv1.Target{
			Connections: names.Draw(t, "connections"), Users: names.Draw(t, "users"),
			Groups: names.Draw(t, "groups"), Everyone: true,
			Except: &controlv1.Exclusion{
				Connections: names.Draw(t, "-connections"),
				Users:       names.Draw(t, "-users"), Groups: names.Draw(t, "-groups"),
			},
		}
		ours := checkTarget(target)
		theirs := v.rules.Validate(&controlv1.ListConnectionsRequest{Target: target})
		if (ours == nil) != (theirs == nil) {
			t.Fatalf("ours %v, the proto's %v", ours, theirs)
		}
		if theirs != nil {
			e, ok := errors.AsType[*failure.FieldError](ours)
			if !ok || !strings.Contains(theirs.Error(), e.Field) {
				t.Fatalf("ours %v, the proto's %v", ours, theirs)
			}
		}
	})
}

func TestEveryRequestWithANamespaceHasItChecked(t *testing.T) {
	v, err := NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, service := range Services() {
		for i := range service.Methods().Len() {
			input := service.Methods().Get(i).Input()
			field := input.Fields().ByName("namespace")
			if field == nil {
				continue
			}
			req := dynamicpb.NewMessage(input)
			req.Set(field, protoreflect.ValueOfString("No"))
			broken, ok := errors.AsType[*protovalidate.ValidationError](
				v.rules.Validate(req, skipTargets),
			)
			if !ok || fieldPath(broken.Violations[0]) != "namespace" {
				t.Errorf("%s: %v", input.Name(), broken)
			}
			checked++
		}
	}
	if checked < 9 {
		t.Errorf("only %d requests have a namespace", checked)
	}
}

func BenchmarkCheckSend(b *testing.B) {
	v, err := NewValidator()
	if err != nil {
		b.Fatal(err)
	}
	for name, n := range map[string]int{"1 name": 1, "10,000 names": MaxTargetNames} {
		var req proto.Message = &controlv1.SendRequest{
			Target: users(many(n, 24)...), Message: text("hello"),
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := v.Check(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
