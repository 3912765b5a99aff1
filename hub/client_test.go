package hub

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/permission"
)

// only are roles that allow some permissions.
type only []permission.Permission

func (o only) Allows(p permission.Permission) bool {
	for _, q := range o {
		if q == p || q == (permission.Permission{Action: p.Action}) {
			return true
		}
	}
	return false
}

func grants(all ...permission.Grant) *granting {
	return &granting{all, make(map[*permission.Grants]*permission.Grants)}
}

type changes []permission.Grant

func given(p permission.Permission) permission.Grant {
	return permission.Grant{Permission: p}
}

func revoked(p permission.Permission) permission.Grant {
	return permission.Grant{Permission: p, Revoked: true}
}

// joining and sendingTo return the permission for a group, or for any group if it is empty.
func joining(group string) permission.Permission {
	return permission.Permission{Action: permission.JoinGroup, Group: group}
}

func sendingTo(group string) permission.Permission {
	return permission.Permission{Action: permission.SendToGroup, Group: group}
}

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
	joinA, joinB := joining("a"), joining("b")
	joinAny, sendA := joining(""), sendingTo("a")
	all := only{joinA, joinB, joinAny, sendA}
	for name, tc := range map[string]struct {
		roles  permission.Roles
		grants changes
		want   only // of the four
	}{
		"nobody":               {nil, nil, nil},
		"a role for one group": {only{joinA}, nil, only{joinA}},
		"a role for all":       {only{joinAny}, nil, only{joinA, joinB, joinAny}},
		"granted":              {nil, changes{given(sendA)}, only{sendA}},
		"granted for all": {
			nil, changes{given(joinAny)}, only{joinA, joinB, joinAny},
		},
		"one revoked": {
			only{joinAny, sendA}, changes{revoked(joinA)}, only{joinB, sendA},
		},
		"all revoked, one granted": {
			only{joinAny}, changes{revoked(joinAny), given(joinB)}, only{joinB},
		},
		"one granted, then all revoked": {nil, changes{given(joinB), revoked(joinAny)}, nil},
		"one revoked, then all granted": {
			nil, changes{revoked(joinB), given(joinAny)}, only{joinA, joinB, joinAny},
		},
		"revoked and granted again": {only{joinAny}, changes{
			revoked(joinA), given(joinA),
		}, only{joinA, joinB, joinAny}},
	} {
		c := withClaims(t, h, &Claims{Roles: tc.roles})
		if err := c.addGrants(grants(tc.grants...)); err != nil {
			t.Fatal(err)
		}
		var got only
		for _, p := range all {
			if c.May(p) {
				got = append(got, p)
			}
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestGrantsAreBounded(t *testing.T) {
	c := withClaims(t, newHub(t), nil)
	for i := range permission.MaxGrants {
		if err := c.addGrants(
			grants(given(joining(strings.Repeat("g", i+1)))),
		); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.addGrants(
		grants(given(joining("one more"))),
	); !errors.Is(err, ErrGrantLimit) {
		t.Errorf("got %v", err)
	}
	if err := c.addGrants(grants(given(joining("")))); err != nil ||
		c.state.Grants.Len() != 1 {
		t.Errorf("a grant for all: %v, %d left", err, c.state.Grants.Len())
	}
}

func TestRepliesGoInFrontOfMessagesAndOnlyToTheLinkThatIsThere(t *testing.T) {
	h := newHub(t)
	c := connectAs(t, h, numbered{}, "ann", "g")
	c.link.stall(true)
	send(t, h, toGroup("g", "message"))
	for _, s := range []string{"one", "two"} {
		if err := c.Reply(Text, []byte(s)); err != nil {
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
	if err := c.Reply(Text, []byte("nobody reads this")); err != nil {
		t.Error(err)
	}
	c.resume(t, token)
	if diff := cmp.Diff([]string{"1 gg:message"}, c.link.numberedFrames(t)); diff != "" {
		t.Error(diff)
	}
	c.Close(cause.Client.CloseStatus())
	if err := c.Reply(Text, nil); !errors.Is(err, ErrClosed) {
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
	reply := make([]byte, 1000-frameHeader)
	sent := 0
	for c.Reply(Binary, reply) == nil {
		if sent += frameHeader + len(reply); sent > maxReplies {
			t.Fatalf("%d bytes of replies wait", sent)
		}
	}
	if how, _ := c.Ended(); how.Cause != cause.Slow {
		t.Errorf("ended with %v", how)
	}
	if sent < maxReplies-2*1000 {
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
