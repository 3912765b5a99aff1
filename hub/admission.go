package hub

import (
	"context"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/names"
)

// Admission describes a client that was let in.
type Admission struct {
	// Namespace is where the connection belongs.
	Namespace string
	// User is empty for an anonymous client.
	User string
	// Groups are joined from the first moment. Duplicates count once; MaxGroups at most.
	Groups []string
	// Protocol says how messages look on the client's links.
	Protocol Protocol
	// RemoteAddress is host:port. Clients without a user count as one user at each host.
	RemoteAddress string
	// Claims is nil if nothing else is known of the client.
	Claims *Claims
}

// Attach registers a connection. Once it has returned, sends from any hub find the connection, and
// wait in its outbox until Bind gives it a link. The caller must see to it that Bind or Close
// follows.
//
// Attach waits until the other hubs know the connection: 500 ms at most, bounded by ctx. It returns
// ErrShuttingDown, ErrTooManyConnections, ErrGroupLimit, or the error of ctx. After an error
// nothing is left of the connection.
func (h *Hub) Attach(ctx context.Context, a Admission) (*Connection, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	groups := names.Distinct(a.Groups)
	if len(groups) > MaxGroups {
		return nil, ErrGroupLimit
	}
	ns, speaks, err := h.reserveConnection(&a)
	if err != nil {
		return nil, err
	}
	c := &Connection{namespace: ns, dialect: speaks}
	if speaks.numbered != nil {
		c.numbering = &numbering{}
	}
	// The strings that the caller passed may be parts of a URL, which need not live as long.
	a.Namespace, a.User = ns.name, strings.Clone(a.User)

	// A goroutine that finds the connection in a table waits until it is whole.
	c.mu.Lock()
	c.applyLocked(Op{Kind: OpAdmit, Identity: &Identity{
		ID:            newConnectionID(h.config.ID),
		Namespace:     a.Namespace,
		User:          a.User,
		Protocol:      a.Protocol.Name(),
		RemoteAddress: a.RemoteAddress,
		Created:       time.Now(),
		Claims:        a.Claims,
	}})
	ns.enlistLocked(c)
	h.interest.addKeys(h.keysOf(&c.state.Identity, nil))
	for _, g := range groups {
		c.joinGroupLocked(g)
	}
	c.mu.Unlock()
	speaks.connections.Inc()

	// Shutdown sets closing, and then closes the connections in the tables. A connection that comes
	// into the tables later finds closing set here.
	if h.Leaving() {
		c.Close(cause.Cause(h.closing.Load()).CloseStatus())
		return nil, ErrShuttingDown
	}
	if err := h.awaitInForce(ctx, h.keysOf(&c.state.Identity, groups)); err != nil {
		c.Close(cause.Handshake.CloseStatus())
		return nil, err
	}
	return c, nil
}

// Claims holds the facts about a client besides its user and groups. It is immutable, and
// connections may share it.
//
// It lives as long as the connection and the events of it that wait. No budget of bytes counts it,
// so its maker must bound it. The edge bounds it by 16 labels of 320 bytes and 256 roles, which
// equal clients share. All of it comes in a request with a header of 16 KiB at most.
type Claims struct {
	// Roles are the client's permissions without any grant; nil: none.
	Roles permission.Roles
	// Labels are for people and backends.
	Labels map[string]string
	// Expires is when the client's permission to be connected ends; zero: never. A detached
	// connection closes then. The link closes an attached one.
	Expires time.Time
	// Private is for the protocol alone.
	Private string
}

// Private returns Claims.Private as it was at Attach.
func (c *Connection) Private() string {
	if claims := c.state.Claims; claims != nil {
		return claims.Private
	}
	return ""
}
