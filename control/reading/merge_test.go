package reading

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
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
