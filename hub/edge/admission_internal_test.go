package edge

import (
	"errors"
	"testing"
	"time"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
)

// TestClaimsAreTheSameAtAnotherHub: by the names of the roles, with patterns. Claims that many
// clients have take no memory of their own.
func TestClaimsAreTheSameAtAnotherHub(t *testing.T) {
	names := []string{"webpubsub.joinLeaveGroups.a*", "webpubsub.sendToGroup.b"}
	parsed, err := auth.ParseRoles(names)
	if err != nil {
		t.Fatal(err)
	}
	here := hub.Claims{
		Roles: roles{parsed}, Labels: map[string]string{"team": "blue"}, Private: "group",
		Expires: time.Unix(1, 0),
	}
	rest := here
	rest.Roles = nil
	there, err := RestoreClaims(roles{parsed}.Names(), rest)
	if err != nil || there.Roles != here.Roles || there.Private != "group" ||
		there.Labels["team"] != "blue" || !there.Expires.Equal(here.Expires) {
		t.Fatalf("%+v, %v, want %+v", there, err, here)
	}
	join := permission.Permission{Action: permission.JoinGroup, Group: "abc"}
	if !there.Roles.Allows(join) || there.Roles.Allows(permission.Permission{
		Action: permission.SendToGroup, Group: "abc",
	}) {
		t.Error("the roles allow other things")
	}
	names = everything.Roles.(roles).Names()
	if all, err := RestoreClaims(names, hub.Claims{}); err != nil || all != everything {
		t.Errorf("all permissions: %+v, %v", all, err)
	}
	if none, err := RestoreClaims(nil, hub.Claims{}); err != nil || none != nil {
		t.Errorf("no permission: %+v, %v", none, err)
	}
}

// TestARoleThatThisHubDoesNotKnowIsNotLeftOut: the client would lose a permission by a move.
func TestARoleThatThisHubDoesNotKnowIsNotLeftOut(t *testing.T) {
	for _, name := range []string{"webpubsub.later", "webpubsub.sendToGroups.***********"} {
		claims, err := RestoreClaims([]string{name}, hub.Claims{})
		if !errors.Is(err, auth.ErrClaimInvalid) {
			t.Errorf("%s: %+v, %v", name, claims, err)
		}
	}
}
