package reading

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// Two hubs may show a connection that moves, and hubs are asked twice after a move. The listing has
// the connection once, from the hub that has it now.
func TestAListingHasTheLatestSightingOfEachConnection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		latest := make(map[string]uint32)
		var pages []page[sighted]
		for range rapid.IntRange(1, 6).Draw(t, "answers") {
			shown := rapid.MapOfN(rapid.StringMatching(`[a-f]`), rapid.Uint32Range(1, 4), 0, 6).
				Draw(t, "shown")
			var items []sighted
			for id, epoch := range shown {
				connection := &controlv1.Connection{Id: id, Hub: fmt.Sprint("hub-", epoch)}
				items = append(items, sighted{connection, epoch})
				latest[id] = max(latest[id], epoch)
			}
			sent := newConnectionPage(page[sighted]{items: items})
			pages = append(pages, page[sighted]{sightedIn(sent), cursorIn(sent.GetNext())})
		}
		merged := mergePages(pages, 10, sighted.GetId, laterSighted)
		if merged.next != (hub.Cursor{}) || len(merged.items) != len(latest) {
			t.Fatalf("%d connections, want %d", len(merged.items), len(latest))
		}
		for _, c := range merged.items {
			want := latest[c.GetId()]
			if c.epoch != want || c.GetHub() != fmt.Sprint("hub-", want) {
				t.Errorf("%s is at %s with epoch %d, want %d", c.GetId(), c.GetHub(), c.epoch, want)
			}
		}
	})
}
