package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// spoken is a dumb model of Permissions: the roles, and all that was said since, in order.
type spoken struct {
	roles *Roles
	words []Grant
}

// may asks for the last word about a group.
func (s *spoken) may(what Permission, group string) bool {
	for _, w := range slices.Backward(s.words) {
		if w.Permission == what && (w.Group == group || w.Group == "") {
			return !w.Revoked
		}
	}
	return s.roles.allow(what, group)
}

func TestTheLastWordOnAPermissionCounts(t *testing.T) {
	groups := []string{"a", "b", "a.b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		model := spoken{roles: drawRoles(t)}
		p := Permissions{Roles: model.roles}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			w := Grant{
				Permission: rapid.SampledFrom([]Permission{JoinLeaveGroup, SendToGroup}).Draw(t, "permission"),
				Group:      rapid.SampledFrom(append([]string{""}, groups[:3]...)).Draw(t, "group"),
				Revoked:    rapid.Bool().Draw(t, "revoke"),
			}
			before, kept := p, slices.Clone(p.Grants)
			var err error
			if w.Revoked {
				p, err = p.Revoke(w.Permission, w.Group)
			} else {
				p, err = p.Grant(w.Permission, w.Group)
			}
			if err != nil {
				t.Fatal(err)
			}
			model.words = append(model.words, w)
			if diff := cmp.Diff(kept, before.Grants); diff != "" {
				t.Fatalf("a value changed: %s", diff)
			}
			for _, g := range groups {
				if p.MayJoin(g) != model.may(JoinLeaveGroup, g) || p.MaySend(g) != model.may(SendToGroup, g) || p.Check(w.Permission, g) != model.may(w.Permission, g) {
					t.Fatalf("group %q after %v: %+v", g, model.words, p)
				}
			}
			if p.Check(w.Permission, "") && slices.ContainsFunc(groups, func(g string) bool { return !model.may(w.Permission, g) }) {
				t.Fatalf("every group is allowed, and one is not: %+v", p)
			}
			if !slices.IsSortedFunc(p.Grants, compareGrants) || len(p.Grants) > 8 {
				t.Fatalf("kept: %+v", p.Grants)
			}
		}
	})
}

func TestCheckOfEveryGroupKnowsExceptions(t *testing.T) {
	var p Permissions
	step := func(change func(Permission, string) (Permissions, error), group string, want bool) {
		t.Helper()
		var err error
		if p, err = change(SendToGroup, group); err != nil {
			t.Fatal(err)
		}
		if have := p.Check(SendToGroup, ""); have != want || p.Check(JoinLeaveGroup, "") {
			t.Errorf("have %v with %+v", have, p.Grants)
		}
	}
	step(p.Grant, "a", false)
	step(p.Grant, "", true)
	step(p.Revoke, "b", false)
	step(p.Grant, "b", true)
	step(p.Revoke, "", false)
	if p.Grants != nil {
		t.Errorf("nothing is allowed, as at first, and kept are %+v", p.Grants)
	}
	p = Permissions{Roles: Everything()}
	if p, err := p.Revoke(SendToGroup, ""); err != nil || p.Check(SendToGroup, "") || p.MaySend("a") || !p.MayJoin("a") {
		t.Errorf("revoked: %+v, %v", p, err)
	}
}

func TestGrantsAreBounded(t *testing.T) {
	var p Permissions
	var err error
	for i := range MaxGrants {
		if p, err = p.Grant(JoinLeaveGroup, fmt.Sprint("g", i)); err != nil {
			t.Fatal(err)
		}
	}
	full := maps.Collect(slices.All(p.Grants))
	if p, err = p.Grant(JoinLeaveGroup, "one more"); !errors.Is(err, ErrGrantLimit) {
		t.Errorf("one too many: %v", err)
	}
	if diff := cmp.Diff(full, maps.Collect(slices.All(p.Grants))); diff != "" {
		t.Error(diff)
	}
	if p, err = p.Revoke(JoinLeaveGroup, "g7"); err != nil || len(p.Grants) != MaxGrants-1 {
		t.Errorf("one less: %d, %v", len(p.Grants), err)
	}
	if _, err = p.Grant(permissionEnd, "g"); err == nil || p.Check(permissionEnd, "g") {
		t.Errorf("no such permission: %v", err)
	}
}

func TestAConnectionOfWhichNobodySaidAnythingCosts32Bytes(t *testing.T) {
	if size := unsafe.Sizeof(Permissions{}); size != 32 {
		t.Errorf("%d bytes", size)
	}
	p := Permissions{Roles: Everything()}
	if allocated := testing.AllocsPerRun(100, func() { _ = p.MayJoin("g") && p.MaySend("g") }); allocated != 0 {
		t.Errorf("%v allocations to ask", allocated)
	}
}
