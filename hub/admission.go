package hub

import (
	"context"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/names"
)

// Admission is a client that was let in.
type Admission struct {
	Namespace     string
	User          string   // empty: anonymous
	Groups        []string // joined from the first moment
	Protocol      Protocol
	RemoteAddress string
	Claims        *Claims // nil: none
}

// Attach registers a connection: from its return on, sends find it, from whatever hub they come, and wait in its
// outbox until Bind gives it a link. The caller sees to it that either Bind or Close follows. Errors: ErrShuttingDown,
// ErrTooManyConnections, ErrGroupLimit, and that of ctx, which bounds the wait for other hubs to know it (500 ms
// at most); then nothing is left of it.
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
	a.Namespace, a.User = ns.name, strings.Clone(a.User) // the ones it came with may be parts of a URL

	c.mu.Lock() // whoever finds it in a table waits until it is whole
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
	for _, g := range groups {
		c.joinGroupLocked(g)
	}
	c.mu.Unlock()
	speaks.connections.Inc()

	// Shutdown closes what it finds in the tables after it has set closing; what came into them later finds
	// closing set.
	if h.Leaving() {
		c.Close(cause.Cause(h.closing.Load()).CloseStatus())
		return nil, ErrShuttingDown
	}
	if err := h.awaitInForce(ctx, keysOf(&a, groups)); err != nil {
		c.Close(cause.Handshake.CloseStatus())
		return nil, err
	}
	return c, nil
}

// Claims is what is known of a client besides its user and groups. Immutable; connections may share it. It lives as long as the connection and
// the events of it that wait, in no budget of bytes: who makes it bounds it. (The edge: 16 labels of 320 bytes, 256 roles, which equal ones share,
// and all of it comes in a request whose header has 16 KiB.)
type Claims struct {
	Roles   Roles             // nil: it may do nothing by itself
	Labels  map[string]string // for people and backends
	Expires time.Time         // when what let it in runs out: then nobody waits for it to come back. The link sees to the rest; zero: never
	Private string            // of its protocol
}

// Private returns what Claims.Private was at Attach.
func (c *Connection) Private() string {
	if claims := c.state.Claims; claims != nil {
		return claims.Private
	}
	return ""
}
