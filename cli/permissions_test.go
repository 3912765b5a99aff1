package cli

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

func TestPermissionsAreGrantedRevokedAndChecked(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	testkit.DialClient(t, hub.Clients, "user=ann&group=blue")
	testkit.DialClient(t, hub.Clients, "user=bob&group=blue")
	addr := "--addr=" + hub.Control
	for _, tt := range []struct {
		args []string
		want string
	}{
		// Without tokens everything is allowed from the start.
		{[]string{
			"permissions", "check", "--group=blue", "send-to-group", "join-leave-group:red",
		}, "✓ 2 connections matched: 2 allowed\n"},
		{[]string{
			"permissions", "revoke", "--user=ann", "send-to-group:a, b",
		}, "✓ 1 connection matched: 1 revoked\n"},
		{[]string{
			"permissions", "check", "send-to-group:a, b",
		}, "✓ 2 connections matched: 1 allowed, 1 not allowed\n"},
		{[]string{
			"permissions", "check", "--everyone", "send-to-group:a, b",
		}, "✓ 2 connections matched: 1 allowed, 1 not allowed\n"},
		{[]string{
			"permissions", "check", "-u", "ann", "send-to-group:a",
		}, "✓ 1 connection matched: 1 allowed\n"},
		{[]string{
			"permissions", "revoke", "-u", "bob", "join-leave-group",
		}, "✓ 1 connection matched: 1 revoked\n"},
		{[]string{
			"permissions", "grant", "-u", "bob", "join-leave-group:x:y", "send-to-group",
		}, "✓ 1 connection matched: 1 granted\n"},
		{[]string{
			"permissions", "check", "-u", "bob", "join-leave-group:x:y",
		}, "✓ 1 connection matched: 1 allowed\n"},
		{[]string{
			"permissions", "check", "-u", "bob", "join-leave-group:x",
		}, "✓ 1 connection matched: 0 allowed, 1 not allowed\n"},
		{
			[]string{"permissions", "check", "-u", "nobody", "send-to-group"},
			"○ no connection matched\n",
		},
	} {
		if got := program.MustRun(t, append(tt.args, addr)...); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
	var granted controlv1.GrantPermissionsResponse
	out := program.MustRun(t, "permissions", "grant", "--json", "--everyone", "send-to-group:g",
		addr)
	if err := protojson.Unmarshal([]byte(out), &granted); err != nil ||
		granted.GetMatched() != 2 || granted.GetChanged() != 2 {
		t.Errorf("--json: %s (%v)", out, err)
	}
	tooMany := append([]string{
		"permissions", "grant", addr, "-u", "ann",
	}, slices.Repeat([]string{"send-to-group"}, 101)...)
	if r := program.Run(t, "", tooMany...); r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "permissions") {
		t.Errorf("101 permissions: exit %d, %s", r.Code, r.Stderr)
	}
}

func TestWhatCameOfAGrantIsSaid(t *testing.T) {
	testkit.CompareGolden(t, "permissions.txt", terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		printPermitted(t, "granted", &controlv1.GrantPermissionsResponse{
			Matched: 206, Changed: 3,
			Refused: 202, Closed: 1, UnreachableHubs: []string{"aaaaaaaa"},
			Refusals: []*controlv1.Refusal{
				{
					Connection: "aaaaaaaa.b",
					Reason:     controlv1.RefusalReason_REFUSAL_REASON_GRANT_LIMIT,
				},
				{Connection: "aaaaaaaa.c", Reason: controlv1.RefusalReason_REFUSAL_REASON_CLOSED},
				{Connection: "aaaaaaaa.\x1b[2J", Group: "a\nb", Reason: 99},
			},
		})
		printPermitted(t, "revoked", &controlv1.RevokePermissionsResponse{Matched: 1, Refused: 1})
	}))
}
