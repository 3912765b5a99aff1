package permission

import (
	"testing"

	"pgregory.net/rapid"
)

// The model looks at all that ever was granted, newest first.
func TestGrantsAgreeWithTheirHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		group := rapid.SampledFrom([]string{"", "a", "b", "c"})
		var history []Grant
		var g *Grants
		for range rapid.IntRange(0, 12).Draw(t, "grants") {
			n := Grant{Permission{
				Action(rapid.IntRange(1, 2).Draw(t, "action")), group.Draw(t, "group"),
			}, rapid.Bool().Draw(t, "revoked")}
			history = append(history, n)
			g = g.With(n)
		}
		for _, action := range []Action{JoinGroup, SendToGroup} {
			for _, name := range []string{"a", "b", "c", "d"} {
				var want, decided bool
				for i := len(history) - 1; i >= 0 && !decided; i-- {
					if h := history[i]; h.Action == action && (h.Group == "" || h.Group == name) {
						want, decided = !h.Revoked, true
					}
				}
				if got, known := g.Decide(Permission{action, name}); got != want ||
					known != decided {
					t.Fatalf("%d %q: %t, %t; history says %t, %t",
						action, name, got, known, want, decided)
				}
			}
		}
	})
}
