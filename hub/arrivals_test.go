package hub

import (
	"testing"

	"github.com/connhub/connhub/hub/cause"
)

// Behind an address, a user or a namespace with many connections that wait for their clients goes
// before those with a single connection.
func TestAnAddressFullOfOneUsersDetachedCostsNobodyElse(t *testing.T) {
	h := newHub(t, func(c *Config) { c.DetachedPerUser, c.DetachedPerAddress = 50, 20 })
	quiet := connectAs(t, h, numbered{}, "quiet")
	quiet.lose()
	nobody := connectAs(t, h, numbered{}, "")
	nobody.lose()
	var evil []*Connection
	for i := range 60 {
		c, err := h.Attach(t.Context(), Admission{
			Namespace: "evil", User: []string{"", "ann", "bob"}[i%3], Protocol: numbered{},
			RemoteAddress: "127.0.0.1:1",
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &memory{connection: c}
		if err := c.Bind(l); err != nil {
			t.Fatal(err)
		}
		c.Unbind(l, cause.Lost.CloseStatus())
		evil = append(evil, c)
	}
	if n := closedOf([]*client{quiet, nobody}); n != 0 {
		t.Errorf("%d of those were closed who came first, and alone", n)
	}
	closed := 0
	for _, c := range evil {
		if _, ended := c.Ended(); ended {
			closed++
		}
	}
	if closed != 42 || h.detached.len() != 20 {
		t.Errorf("%d were closed, %d are left", closed, h.detached.len())
	}
	for _, c := range evil {
		c.Close(cause.Client.CloseStatus())
	}
}

// Detached clients without a user are one user at their address, so those with a user stay.
func TestDetachedClientsWithoutAUserGoBeforeAUserThatHasFewer(t *testing.T) {
	h := newHub(t, func(c *Config) { c.DetachedPerAddress = 20 })
	var named, unnamed []*client
	for range 3 {
		named = append(named, connectAs(t, h, numbered{}, "ann"))
		named[len(named)-1].lose()
	}
	for range 40 {
		unnamed = append(unnamed, connectAs(t, h, numbered{}, ""))
		unnamed[len(unnamed)-1].lose()
	}
	if closedOf(named) != 0 || closedOf(unnamed) != 23 {
		t.Errorf(
			"closed %d of a user's, %d of those without one", closedOf(named), closedOf(unnamed),
		)
	}
}
