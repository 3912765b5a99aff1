package control

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/auth"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func TestClientTokenOpensTheURLItComesWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for _, c := range []struct {
			req     *controlv1.IssueClientTokenRequest
			expires time.Duration
			path    string
		}{
			{&controlv1.IssueClientTokenRequest{}, time.Hour, "/edge/client/hubs/default"},
			{&controlv1.IssueClientTokenRequest{
				Namespace: "chat", User: "ann", Groups: []string{"red", "blue"},
				Roles:  []string{"webpubsub.sendToGroup.red", "webpubsub.joinLeaveGroup"},
				Labels: map[string]string{"plan": "free", "empty": ""},
				Ttl:    durationpb.New(time.Minute),
			}, time.Minute, "/edge/client/hubs/chat"},
			{&controlv1.IssueClientTokenRequest{
				Ttl: durationpb.New(1500 * time.Millisecond),
			}, 2 * time.Second, "/edge/client/hubs/default"},
		} {
			resp, err := f.access.IssueClientToken(t.Context(), c.req)
			if err != nil {
				t.Fatal(err)
			}
			expires := time.Now().Add(c.expires)
			if diff := cmp.Diff(
				timestamppb.New(expires), resp.GetExpireTime(), protocmp.Transform(),
			); diff != "" {
				t.Error(diff)
			}
			u, err := url.Parse(resp.GetUrl())
			if err != nil {
				t.Fatal(err)
			}
			if u.Scheme != "wss" || u.Host != "hub.example" ||
				u.Path != c.path || u.Query().Get("access_token") != resp.GetToken() {
				t.Errorf("url %s", resp.GetUrl())
			}
			audience := "https://hub.example" + c.path
			claims, err := auth.NewTokens(nil, f.tokens).Verify(
				t.Context(), resp.GetToken(), audience,
			)
			if err != nil {
				t.Fatal(err)
			}
			want := auth.Claims{User: c.req.GetUser(), Groups: c.req.GetGroups(), Expires: expires}
			roles := slices.Sorted(slices.Values(c.req.GetRoles()))
			if !claims.Expires.Equal(want.Expires) || claims.User != want.User ||
				!cmp.Equal(claims.Groups, want.Groups) ||
				!cmp.Equal(claims.Labels, c.req.GetLabels(), cmpopts.EquateEmpty()) ||
				!cmp.Equal(roles, claims.Roles.Names(), cmpopts.EquateEmpty()) {
				t.Errorf("have %v, want %v", claims, want)
			}
			if strings.Contains(f.log.String(), resp.GetToken()) {
				t.Error("the token is in the log")
			}
		}
	})
}

func TestRolesThatMeanNothingAreNotSigned(t *testing.T) {
	f := newFixture(t)
	for role, field := range map[string]string{
		"admin":                                  "roles[0]",
		"webpubsub.joinLeaveGroups":              "roles[0]",
		"webpubsub.sendToGroup.":                 "roles[0]",
		"webpubsub.sendToGroup.a\n":              "roles[0]",
		"webpubsub.sendToGroups.*.*.*.*.*.*":     "roles",
		"webpubsub.sendToGroups.\\":              "roles",
		"webpubsub.joinLeaveGroup." + long(1025): "roles",
	} {
		_, err := f.access.IssueClientToken(
			t.Context(), &controlv1.IssueClientTokenRequest{Roles: []string{role}},
		)
		words := "webpubsub.sendToGroups.PATTERN (groups that match)"
		if field == "roles" { // the group or the pattern is wrong
			words = "role[0]"
		}
		holdFieldError(t, err, invalid, field, words)
	}
}

func TestATokenThatNoURLCanCarryIsRefused(t *testing.T) {
	f := newFixture(t)
	ask := func(groups []string) (*controlv1.IssueClientTokenResponse, error) {
		return f.access.IssueClientToken(
			t.Context(), &controlv1.IssueClientTokenRequest{Groups: groups},
		)
	}
	if _, err := ask(many(128, 60)); err != nil {
		t.Errorf("128 groups of 60 bytes: %v", err)
	}
	_, err := ask(many(128, 1024))
	holdFieldError(t, err, exceeded, "groups", "12288")
}
