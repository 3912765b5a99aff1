package auth

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/names"
	"github.com/connhub/connhub/internal/testkit"
)

func mustRoles(t testing.TB, names ...string) *Roles {
	t.Helper()
	r, err := ParseRoles(names)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drawRoles draws valid roles.
func drawRoles(t *rapid.T) *Roles {
	role := rapid.StringMatching(`webpubsub\.(joinLeaveGroup|sendToGroup)` +
		`((\.[ab.*]{1,3})|(s\.[ab.?]{0,2}\*?\*?[ab.]{1,2}))?|other`)
	r, err := ParseRoles(rapid.SliceOfN(role, 0, 10).Draw(t, "roles"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRolesAllowWhatTheySay(t *testing.T) {
	for _, c := range []struct {
		roles      []string
		group      string
		join, send bool
	}{
		{nil, "g", false, false},
		{[]string{"webpubsub.joinLeaveGroup"}, "g", true, false},
		{[]string{"webpubsub.sendToGroup"}, "g", false, true},
		{[]string{"webpubsub.sendToGroup.g"}, "g", false, true},
		{[]string{"webpubsub.sendToGroup.g"}, "G", false, false},
		{[]string{"webpubsub.sendToGroup.g"}, "g.h", false, false},
		{[]string{"webpubsub.joinLeaveGroup.a.b"}, "a.b", true, false},
		// The group whose name is an asterisk, not a pattern.
		{[]string{"webpubsub.joinLeaveGroup.*"}, "a", false, false},
		{[]string{"webpubsub.joinLeaveGroup.*"}, "*", true, false},
		{[]string{"webpubsub.joinLeaveGroups.*", "webpubsub.sendToGroup.x"}, "a", true, false},
		{[]string{"webpubsub.joinLeaveGroups.*"}, "a.b", false, false},
		{[]string{"webpubsub.joinLeaveGroups.b", "webpubsub.joinLeaveGroups.a"}, "a", true, false},
		{[]string{
			"WebPubSub.joinLeaveGroup", "webpubsub.JoinLeaveGroup", "webpubsub.joinLeaveGroups",
			"webpubsub.", "webpubsub", "joinLeaveGroup", "",
		}, "g", false, false},
	} {
		r := mustRoles(t, c.roles...)
		join, send := r.Allow(JoinLeaveGroup, c.group), r.Allow(SendToGroup, c.group)
		if join != c.join || send != c.send {
			t.Errorf("%q, group %q: join %v, send %v", c.roles, c.group, join, send)
		}
	}
	all := Everything()
	if !all.Allow(JoinLeaveGroup, "any") || !all.Allow(SendToGroup, "thing") ||
		!all.AllowAll(JoinLeaveGroup) || !all.AllowAll(SendToGroup) {
		t.Error("Everything does not allow everything")
	}
}

func TestRolesThatAreUnknownAreLeftOutAndTheOthersKeptOnce(t *testing.T) {
	r := mustRoles(t, "webpubsub.sendToGroup.b", "admin", "webpubsub.sendToGroup.a",
		"webpubsub.invoke", "webpubsub.sendToGroup.b")
	diff := cmp.Diff([]string{"webpubsub.sendToGroup.a", "webpubsub.sendToGroup.b"}, r.Names())
	if diff != "" {
		t.Error(diff)
	}
	if again := mustRoles(t, r.Names()...); again != r {
		t.Error("the names give different roles")
	}
	if none := mustRoles(t, "admin"); none != nil || none.Names() != nil {
		t.Errorf("unknown ones alone: %v", none)
	}
}

func TestMalformedRolesAreNamed(t *testing.T) {
	tooLong := "webpubsub.sendToGroup." + strings.Repeat("g", names.MaxBytes+1)
	for role, want := range map[string]string{
		"webpubsub.joinLeaveGroup.":   "role[1]: empty name",
		"webpubsub.joinLeaveGroups.":  "role[1]: empty name",
		"webpubsub.sendToGroup.a\x00": "role[1]: control character",

		"webpubsub.sendToGroup.\xff":         "role[1]: not UTF-8",
		"webpubsub.sendToGroups.*.*.*.*.*.*": "role[1]: more than five *",
		"webpubsub.sendToGroups.**.**.**":    "role[1]: more than five *",

		`webpubsub.sendToGroups.\`:  `role[1]: a \ that is not followed by \, * or ?`,
		`webpubsub.sendToGroups.\a`: `role[1]: a \ that is not followed by \, * or ?`,

		tooLong: "role[1]: 1025 bytes, want at most 1024",
	} {
		_, err := ParseRoles([]string{"fine", role})
		if !errors.Is(err, ErrClaimInvalid) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", role, err, want)
		}
	}
	for _, role := range []string{
		`webpubsub.sendToGroups.*.*.*.*.*.\*`, "webpubsub.sendToGroups.**.**.*",
	} {
		if _, err := ParseRoles([]string{role}); err != nil {
			t.Errorf("%q: %v", role, err)
		}
	}
}

func TestEqualRolesAreSharedAndForgottenWithTheirLastHolder(t *testing.T) {
	before := sharedRoles.countRoles()
	func() {
		a := mustRoles(t, "webpubsub.sendToGroup.shared-x", "webpubsub.sendToGroup.shared-y")
		b := mustRoles(t, "webpubsub.sendToGroup.shared-y", "other",
			"webpubsub.sendToGroup.shared-x")
		if a != b {
			t.Error("equal roles are two")
		}
		if c := mustRoles(t, "webpubsub.sendToGroup.shared-x"); c == a {
			t.Error("different roles are one")
		}
		runtime.KeepAlive(a)
	}()
	testkit.Eventually(t, "no more role lists are kept than before", func() bool {
		runtime.GC() // starts the cleanups, in a goroutine of the runtime
		return sharedRoles.countRoles() <= before
	})
}

// slowMatches is a plain model of a pattern's meaning. It needs exponential time.
func slowMatches(pattern, name []rune) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	within := len(name) > 0 && name[0] != '.'
	switch {
	case pattern[0] == '\\':
		return len(name) > 0 && name[0] == pattern[1] && slowMatches(pattern[2:], name[1:])
	case len(pattern) > 1 && pattern[0] == '*' && pattern[1] == '*':
		return slowMatches(pattern[2:], name) || len(name) > 0 && slowMatches(pattern, name[1:])
	case pattern[0] == '*':
		return slowMatches(pattern[1:], name) || within && slowMatches(pattern, name[1:])
	case pattern[0] == '?':
		return within && slowMatches(pattern[1:], name[1:])
	default:
		return len(name) > 0 && name[0] == pattern[0] && slowMatches(pattern[1:], name[1:])
	}
}

func TestPatternsMatchWhatADumbMatcherMatches(t *testing.T) {
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([abö.?*]|\\[\\*?]){0,9}`).Draw(t, "pattern")
		name := rapid.StringMatching(`[abö.*?\\]{0,9}`).Draw(t, "name")
		// The prefix moves the rest to any position relative to the words of 64 places.
		length := rapid.OneOf(rapid.Just(0), rapid.IntRange(50, 70), rapid.IntRange(115, 130))
		before := strings.Repeat("x", length.Draw(t, "before"))
		text, name = before+text, before+name
		p, problem := parsePattern(text)
		if problem != "" {
			t.Skip(problem)
		}
		want := slowMatches([]rune(text), []rune(name))
		if have := p.matchesName(name); have != want {
			t.Fatalf("%q matches %q: %v", text, name, have)
		}
		if want {
			matched++
		}
	})
	if matched == 0 {
		t.Error("nothing ever matched")
	}
}

func TestTheWorstPatternIsNotSlow(t *testing.T) {
	p, problem := parsePattern("**a" + strings.Repeat("?", 900) + "**a*b")
	if problem != "" {
		t.Fatal(problem)
	}
	name := strings.Repeat("a", names.MaxBytes)
	meter := testkit.NewMeter()
	defer meter.Stop()
	began := time.Now()
	if p.matchesName(name) {
		t.Error("matches")
	}
	// The match takes some milliseconds. A matcher that backtracks needs years.
	if took := time.Since(began); took > meter.Limit(time.Second) {
		t.Errorf("took %v", took)
	}
}

// worstRoles returns the roles that cost a permission check the most: patterns of n steps together,
// each step a single character, and no pattern matches.
func worstRoles(n int) []string {
	var roles []string
	for n > 0 {
		steps := min(n, names.MaxBytes-2)
		roles = append(roles,
			"webpubsub.sendToGroups.**"+strings.Repeat("?a", steps)[:steps-3]+"?b")
		n -= steps
	}
	return roles
}

func TestTheWorkOfAllPatternsOfATokenIsBounded(t *testing.T) {
	if _, err := ParseRoles(worstRoles(maxSteps)); err != nil {
		t.Errorf("%d steps: %v", maxSteps, err)
	}
	_, err := ParseRoles(worstRoles(maxSteps + 1))
	if !errors.Is(err, ErrClaimInvalid) ||
		!strings.HasSuffix(err.Error(),
			"role: patterns of 4097 steps together, want at most 4096") {
		t.Errorf("a step more: %v", err)
	}
	// MaxRoles roles with patterns as people write them.
	roles := make([]string, MaxRoles)
	for i := range roles {
		roles[i] = fmt.Sprintf("webpubsub.joinLeaveGroups.tenant-%d.*.room-??.**.x?", i)
	}
	if _, err := ParseRoles(roles); err != nil {
		t.Error(err)
	}
}

func BenchmarkWorstCheck(b *testing.B) {
	r, err := ParseRoles(worstRoles(maxSteps))
	if err != nil {
		b.Fatal(err)
	}
	name := strings.Repeat("a", names.MaxBytes)
	for b.Loop() {
		if r.Allow(SendToGroup, name) {
			b.Fatal("allowed")
		}
	}
}

func FuzzParseRoles(f *testing.F) {
	f.Add(`webpubsub.joinLeaveGroups.a*?\**.b`, "webpubsub.sendToGroup", "aXb*c.b")
	f.Add("webpubsub.sendToGroups.**", "webpubsub.joinLeaveGroup.", "")
	f.Fuzz(func(t *testing.T, a, b, group string) {
		r, err := ParseRoles([]string{a, b})
		if err != nil {
			if !errors.Is(err, ErrClaimInvalid) {
				t.Fatalf("not our error: %v", err)
			}
			return
		}
		for _, kind := range []Permission{JoinLeaveGroup, SendToGroup} {
			_ = r.Allow(kind, group) // must not panic if group is not UTF-8
			text, ok := strings.CutPrefix(a, fmt.Sprintf("webpubsub.%ss.", kind))
			if ok && strings.Count(text, "*") <= 3 && len(group) < 20 && utf8.ValidString(group) {
				m, _ := parsePattern(text)
				have, want := m.matchesName(group), slowMatches([]rune(text), []rune(group))
				if have != want {
					t.Fatalf("%q matches %q: %v", text, group, have)
				}
			}
		}
		if again, err := ParseRoles(r.Names()); err != nil || again != r {
			t.Fatalf("again: %v, %v", again, err)
		}
	})
}

// TestRolesOfTheirNamesAreTheSame, and a name that would be left out is an error.
func TestRolesOfTheirNamesAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRoles(t)
		if again, err := ParseKnownRoles(r.Names()); err != nil || again != r {
			t.Fatalf("%q are %q, %v", r.Names(), again.Names(), err)
		}
		later := append([]string{"webpubsub.later"}, r.Names()...)
		if got, err := ParseKnownRoles(later); !errors.Is(err, ErrClaimInvalid) {
			t.Fatalf("%q, %v", got.Names(), err)
		}
	})
	if r, err := ParseKnownRoles(nil); r != nil || err != nil {
		t.Errorf("no roles: %q, %v", r.Names(), err)
	}
}
