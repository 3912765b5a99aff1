package control

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
)

// Groups that are spread over hubs, listed page by page, come out whole: each once, with the
// members of all hubs, in the order of cursors; also where a hub's page is shorter than was asked
// for.
func TestMergedPagesAreTheWholeInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := make(map[string]int32)
		hubs := make([]map[string]int32, rapid.IntRange(1, 4).Draw(t, "hubs"))
		for i := range hubs {
			hubs[i] = rapid.MapOfN(rapid.StringMatching(`[a-f]{1,2}`),
				rapid.Int32Range(1, 9), 0, 20).Draw(t, "groups")
			for name, members := range hubs[i] {
				whole[name] += members
			}
		}
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		var listed []*controlv1.Group
		for after, turns := (hub.Cursor{}), 0; ; turns++ {
			if turns > 200 {
				t.Fatal("the listing does not end")
			}
			var parts []page[*controlv1.Group]
			for _, groups := range hubs {
				parts = append(parts, pageOfGroups(t, groups, after, limit))
			}
			sum := func(a, b *controlv1.Group) *controlv1.Group {
				return &controlv1.Group{Name: a.GetName(), Members: a.GetMembers() + b.GetMembers()}
			}
			merged := mergePages(parts, limit, (*controlv1.Group).GetName, sum)
			if len(merged.items) > limit {
				t.Fatalf("a page of %d, limit %d", len(merged.items), limit)
			}
			listed = append(listed, merged.items...)
			if merged.next == (hub.Cursor{}) {
				break
			}
			if merged.next.Compare(after) <= 0 {
				t.Fatalf("from %v to %v", after, merged.next)
			}
			after = merged.next
		}
		if !slices.IsSortedFunc(listed, func(a, b *controlv1.Group) int {
			return hub.CursorOf(a.GetName()).Compare(hub.CursorOf(b.GetName()))
		}) {
			t.Error("not in the order of cursors")
		}
		have := make(map[string]int32)
		for _, g := range listed {
			if have[g.GetName()] != 0 {
				t.Errorf("%s is listed twice", g.GetName())
			}
			have[g.GetName()] = g.GetMembers()
		}
		if diff := cmp.Diff(whole, have); diff != "" {
			t.Error(diff)
		}
	})
}

// pageOfGroups is the answer of a hub; it may stop early, as if groups had ended meanwhile.
func pageOfGroups(
	t *rapid.T, groups map[string]int32, after hub.Cursor, limit int,
) page[*controlv1.Group] {
	names := slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return hub.CursorOf(a).Compare(hub.CursorOf(b))
	})
	names = slices.DeleteFunc(names, func(name string) bool {
		return hub.CursorOf(name).Compare(after) <= 0
	})
	var p page[*controlv1.Group]
	if n := rapid.IntRange(1, limit).Draw(t, "page"); n < len(names) {
		names = names[:n]
		p.next = hub.CursorOf(names[n-1])
	}
	for _, name := range names {
		p.items = append(p.items, &controlv1.Group{Name: name, Members: groups[name]})
	}
	return p
}

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
			sum.mergeBits(matchedNames(target, un))
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
		sum := newGathered(&outgoing{send: hub.Send{Message: &hub.Message{ID: "m"}}}, nil)
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
			sum.addResult(&peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{
				Send: &peerv1.SendResult{Receipt: proto.CloneOf(part)},
			}})
		}
		for _, reason := range slices.Sorted(maps.Keys(dropped)) {
			want.Dropped = append(
				want.Dropped, &controlv1.Dropped{Reason: reason, Count: dropped[reason]},
			)
		}
		if diff := cmp.Diff(want, sum.totalReceipt(), protocmp.Transform()); diff != "" {
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
