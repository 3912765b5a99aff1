package hub

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
)

// only are roles that allow some permissions.
type only []Permission

func (o only) Allows(p Permission) bool {
	for _, q := range o {
		if q == p || q == (Permission{Action: p.Action}) {
			return true
		}
	}
	return false
}

func grants(all ...Grant) *granting { return &granting{all, make(map[*Grants]*Grants)} }

func withClaims(t *testing.T, h *Hub, c *Claims) *Connection {
	t.Helper()
	connection, err := h.Attach(
		t.Context(), Admission{Namespace: DefaultNamespace, Protocol: bare{}, Claims: c},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close(cause.Client.CloseStatus()) })
	return connection
}

func TestClientMayDoWhatItsRolesSayUntilAGrantSaysOtherwise(t *testing.T) {
	h := newHub(t)
	joinA, joinB := Permission{JoinGroup, "a"}, Permission{JoinGroup, "b"}
	joinAny, sendA := Permission{JoinGroup, ""}, Permission{SendToGroup, "a"}
	for name, tc := range map[string]struct {
		roles  Roles
		grants []Grant
		want   []Permission // of the four
	}{
		"nobody":               {nil, nil, nil},
		"a role for one group": {only{joinA}, nil, []Permission{joinA}},
		"a role for all":       {only{joinAny}, nil, []Permission{joinA, joinB, joinAny}},
		"granted":              {nil, []Grant{{sendA, false}}, []Permission{sendA}},
		"granted for all": {
			nil, []Grant{{joinAny, false}}, []Permission{joinA, joinB, joinAny},
		},
		"one revoked": {
			only{joinAny, sendA}, []Grant{{joinA, true}}, []Permission{joinB, sendA},
		},
		"all revoked, one granted": {
			only{joinAny}, []Grant{{joinAny, true}, {joinB, false}}, []Permission{joinB},
		},
		"one granted, then all revoked": {nil, []Grant{{joinB, false}, {joinAny, true}}, nil},
		"one revoked, then all granted": {
			nil, []Grant{{joinB, true}, {joinAny, false}}, []Permission{joinA, joinB, joinAny},
		},
		"revoked and granted again": {only{joinAny}, []Grant{
			{joinA, true}, {joinA, false},
		}, []Permission{joinA, joinB, joinAny}},
	} {
		c := withClaims(t, h, &Claims{Roles: tc.roles})
		if err := c.addGrants(grants(tc.grants...)); err != nil {
			t.Fatal(err)
		}
		var got []Permission
		for _, p := range []Permission{joinA, joinB, joinAny, sendA} {
			if c.May(p) {
				got = append(got, p)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

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
			g = g.withGrant(n)
		}
		for _, action := range []Action{JoinGroup, SendToGroup} {
			for _, name := range []string{"a", "b", "c", "d"} {
				var want, decided bool
				for i := len(history) - 1; i >= 0 && !decided; i-- {
					if h := history[i]; h.Action == action && (h.Group == "" || h.Group == name) {
						want, decided = !h.Revoked, true
					}
				}
				if got, known := g.decidesOn(Permission{action, name}); got != want ||
					known != decided {
					t.Fatalf("%d %q: %t, %t; history says %t, %t",
						action, name, got, known, want, decided)
				}
			}
		}
	})
}

func TestGrantsAreBounded(t *testing.T) {
	c := withClaims(t, newHub(t), nil)
	for i := range MaxGrants {
		if err := c.addGrants(
			grants(Grant{Permission: Permission{JoinGroup, strings.Repeat("g", i+1)}}),
		); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.addGrants(
		grants(Grant{Permission: Permission{JoinGroup, "one more"}}),
	); !errors.Is(err, ErrGrantLimit) {
		t.Errorf("got %v", err)
	}
	if err := c.addGrants(grants(Grant{Permission: Permission{Action: JoinGroup}})); err != nil ||
		len(c.state.Grants.list) != 1 {
		t.Errorf("a grant for all: %v, %d left", err, len(c.state.Grants.list))
	}
}

func TestRepliesGoInFrontOfMessagesAndOnlyToTheLinkThatIsThere(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann", "g")
	c.link.stall(true)
	send(t, h, toGroup("g", "message"))
	for _, s := range []string{"one", "two"} {
		if err := c.Reply(appendFrame(nil, s)); err != nil {
			t.Fatal(err)
		}
	}
	c.link.stall(false)
	if diff := cmp.Diff(
		[]string{"one", "two", "#1", "gg:message"}, c.link.frames()[1:],
	); diff != "" {
		t.Error(diff)
	}
	token := c.link.token(t)
	c.lose()
	if err := c.Reply(appendFrame(nil, "nobody reads this")); err != nil {
		t.Error(err)
	}
	c.resume(t, token)
	if diff := cmp.Diff([]string{"1 gg:message"}, c.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	c.Close(cause.Client.CloseStatus())
	if err := c.Reply(nil); !errors.Is(err, ErrClosed) {
		t.Errorf("reply to a closed connection: %v", err)
	}
}

func TestCommandThatSucceededIsRemembered(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann")
	c.Done(7)
	c.resume(t, c.link.token(t))
	for command, want := range map[uint64]bool{6: false, 7: true, 8: false} {
		if got := c.Did(command); got != want {
			t.Errorf("%d: %t, want %t", command, got, want)
		}
	}
	c.Close(cause.Client.CloseStatus())
	if c.Done(8); c.Did(8) {
		t.Error("a closed connection has changed")
	}
}

func TestClientThatDoesNotReadItsRepliesIsClosed(t *testing.T) {
	h := newHub(t)
	c := connect(t, h, "ann")
	c.link.stall(true)
	reply := make([]byte, 1000)
	sent := 0
	for c.Reply(reply) == nil {
		if sent += len(reply); sent > maxReplies {
			t.Fatalf("%d bytes of replies wait", sent)
		}
	}
	if how, _ := c.Ended(); how.Cause != cause.Slow {
		t.Errorf("ended with %v", how)
	}
	if sent < maxReplies-2*len(reply) {
		t.Errorf("closed after %d bytes, want %d", sent, maxReplies)
	}
}

func TestJoinOfTheClientIsInForceWhenItReturns(t *testing.T) {
	h := newHub(t)
	c := connect(t, h, "ann")
	if err := c.Join(t.Context(), "late"); err != nil {
		t.Fatal(err)
	}
	send(t, h, toGroup("late", "hi"))
	c.Leave("late")
	send(t, h, toGroup("late", "nobody"))
	c.Leave("late") // again: nothing happens
	if diff := cmp.Diff([]string{"glate:hi"}, c.link.frames()); diff != "" {
		t.Error(diff)
	}
	c.Connection.Close(cause.Client.CloseStatus())
	if err := c.Join(t.Context(), "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("join of a closed connection: %v", err)
	}
}
