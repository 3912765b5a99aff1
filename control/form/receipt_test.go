package form

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// Several hubs tell by bits the same as a hub with all connections would tell by name.
func TestNamesThatMatchedNowhereAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.StringMatching(`[a-e]`), 0, 12)
		target := &hub.Target{
			Connections: names.Draw(t, "connections"),
			Users:       names.Draw(t, "users"), Groups: names.Draw(t, "groups"),
		}
		lists := []struct {
			kind  string
			names []string
		}{{"c", target.Connections}, {"u", target.Users}, {"g", target.Groups}}
		anywhere := make(map[string]bool)
		var sum nameSet
		for i := range rapid.IntRange(1, 4).Draw(t, "hubs") {
			here := make(map[string]bool)
			missing := func(kind string, names []string) (list []string) {
				for _, name := range names {
					key := kind + name
					if _, drawn := here[key]; !drawn {
						here[key] = rapid.Bool().Draw(t, fmt.Sprint(i, key))
						anywhere[key] = anywhere[key] || here[key]
					}
					if !here[key] {
						list = append(list, name)
					}
				}
				return list
			}
			un := &hub.Unmatched{
				Connections: missing("c", target.Connections), Users: missing("u", target.Users),
				Groups: missing("g", target.Groups),
			}
			sum.mergeBits(MatchedNames(target, un))
		}
		var want [3][]string
		for i, list := range lists {
			for _, name := range list.names {
				if !anywhere[list.kind+name] {
					want[i] = append(want[i], name)
				}
			}
		}
		have := sum.unmatchedNames(target)
		expected := &controlv1.Unmatched{Connections: want[0], Users: want[1], Groups: want[2]}
		if diff := cmp.Diff(expected, have, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestReceiptsAddUpInEveryField(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sum := NewReceiptSum(&hub.Send{Message: &hub.Message{ID: "m"}}, nil, nil)
		want := &controlv1.Receipt{MessageId: "m"}
		fields := want.ProtoReflect().Descriptor().Fields()
		dropped := make(map[controlv1.DropReason]int32)
		for range rapid.IntRange(0, 4).Draw(t, "hubs") {
			part := &controlv1.Receipt{}
			for i := range fields.Len() {
				if f := fields.Get(i); f.Kind().String() == "int32" {
					n := rapid.Int32Range(0, 1000).Draw(t, string(f.Name()))
					setInt(part, i, n)
					setInt(want, i, getInt(want, i)+n)
				}
			}
			for reason := controlv1.DropReason(1); int(reason) < len(
				controlv1.DropReason_name,
			); reason++ {
				if n := rapid.Int32Range(0, 3).Draw(t, reason.String()); n > 0 {
					part.Dropped = append(
						part.Dropped, &controlv1.Dropped{Reason: reason, Count: n},
					)
					dropped[reason] += n
				}
			}
			sum.AddResult(&peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{
				Send: &peerv1.SendResult{Receipt: proto.CloneOf(part)},
			}})
		}
		for _, reason := range slices.Sorted(maps.Keys(dropped)) {
			want.Dropped = append(
				want.Dropped, &controlv1.Dropped{Reason: reason, Count: dropped[reason]},
			)
		}
		if diff := cmp.Diff(want, sum.Total(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}

func setInt(r *controlv1.Receipt, field int, n int32) {
	m := r.ProtoReflect()
	m.Set(m.Descriptor().Fields().Get(field), protoreflect.ValueOfInt32(n))
}

func getInt(r *controlv1.Receipt, field int) int32 {
	m := r.ProtoReflect()
	return int32(m.Get(m.Descriptor().Fields().Get(field)).Int())
}

func TestEachReasonForADropIsOneOfTheAPI(t *testing.T) {
	seen := map[controlv1.DropReason]bool{controlv1.DropReason_DROP_REASON_UNSPECIFIED: true}
	for _, r := range cause.DropReasons() {
		if seen[dropReasons[r]] {
			t.Errorf("%v is %v, as another", r, dropReasons[r])
		}
		seen[dropReasons[r]] = true
	}
	if len(seen) != len(controlv1.DropReason_name) {
		t.Errorf("%d reasons, the API has %d", len(seen), len(controlv1.DropReason_name))
	}
}
