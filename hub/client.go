package hub

import (
	"context"
	"slices"
	"time"
)

// What a client does by itself, when its protocol has decoded it. The methods here may be called concurrently, as all of Connection.

// Action is what a permission is for.
type Action uint8

const (
	// JoinGroup is to enter a group and to leave it.
	JoinGroup Action = iota + 1
	// SendToGroup is to send to all members of a group.
	SendToGroup
)

// Permission is to do something with one group, or, where Group is empty, with any.
type Permission struct {
	Action Action
	Group  string
}

// Roles is what a client may do from the start. Immutable; connections may share it.
type Roles interface {
	// Allows reports whether the roles include the permission.
	Allows(Permission) bool
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

// Grant is a permission that was given, or taken away, at run time.
type Grant struct {
	Permission

	Revoked bool
}

// MaxGrants is the most grants and revocations that one connection may have. One without a group replaces all of its action.
const MaxGrants = 1000

// Grants are the changes to what a client may do. Immutable.
type Grants struct{ list []Grant }

// with returns the grants and one more, which replaces those that it makes pointless.
func (g *Grants) with(n Grant) *Grants {
	next := &Grants{}
	if g != nil {
		next.list = slices.DeleteFunc(slices.Clone(g.list), func(o Grant) bool {
			return o.Action == n.Action && (n.Group == "" || o.Group == n.Group)
		})
	}
	next.list = append(next.list, n)
	return next
}

// decides returns what the grants say about a permission, if they do: what names the group comes before what names none. A permission for
// any group is there only if nothing takes away a single one.
func (g *Grants) decides(p Permission) (allowed, decided bool) {
	if g == nil {
		return false, false
	}
	for _, o := range g.list {
		switch {
		case o.Action != p.Action:
		case o.Group == p.Group:
			allowed, decided = !o.Revoked, true
			if p.Group != "" {
				return allowed, true
			}
		case o.Group == "":
			allowed, decided = !o.Revoked, true
		}
	}
	if p.Group == "" && slices.ContainsFunc(g.list, func(o Grant) bool { return o.Action == p.Action && o.Revoked }) {
		return false, true
	}
	return allowed, decided
}

// May reports whether the client may do something: what was granted or revoked last counts, then its roles.
func (c *Connection) May(p Permission) bool {
	c.mu.Lock()
	grants, claims := c.state.Grants, c.state.Claims
	c.mu.Unlock()
	if allowed, decided := grants.decides(p); decided {
		return allowed
	}
	return claims != nil && claims.Roles != nil && claims.Roles.Allows(p)
}

// granting adds grants to what many connections have already: most have the same, and share what comes of it.
type granting struct {
	all  []Grant
	made map[*Grants]*Grants // by what was there before
}

func (g *granting) with(before *Grants) *Grants {
	next, ok := g.made[before]
	if !ok {
		next = before
		for _, n := range g.all {
			next = next.with(n)
		}
		g.made[before] = next
	}
	return next
}

// grant gives the client permissions, or takes them away, all or none. Errors: ErrClosed, ErrGrantLimit.
func (c *Connection) grant(g *granting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseClosed {
		return ErrClosed
	}
	next := g.with(c.state.Grants)
	if next != nil && len(next.list) > MaxGrants {
		return ErrGrantLimit
	}
	c.applyLocked(Op{Kind: OpGrant, Grants: next})
	return nil
}

// Private returns what Claims.Private was at Attach.
func (c *Connection) Private() string {
	if claims := c.state.Claims; claims != nil {
		return claims.Private
	}
	return ""
}

// Join makes the connection a member of a group. When it returns, that is in force at every hub (500 ms at most). It does not ask whether
// the client may. Errors: ErrClosed, ErrGroupLimit, that of ctx.
func (c *Connection) Join(ctx context.Context, group string) error {
	if _, err := c.join(group); err != nil {
		return err
	}
	return c.hub().interest.InForce(ctx, groupKeys(c.state.Namespace, []string{group}))
}

// Leave ends a membership, if there is one.
func (c *Connection) Leave(group string) { c.leave(group) }

// Event is what a client has for the backends.
type Event struct {
	Name    string
	Kind    PayloadKind
	Payload []byte // not to be changed; checked as Message.Payload
}

// Emit hands an event of the client to the sink, which is to bring it to a backend, and reports whether the event is queued for one at least:
// see EventSink. Error: ErrClosed.
func (c *Connection) Emit(e *Event) (queued bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseClosed {
		return false, ErrClosed
	}
	op := Op{Kind: OpEvent, Event: e}
	if sink, ok := c.hub().config.Sink.(EventSink); ok && c.hub().sees(OpEvent) {
		c.state.apply(&op)
		return sink.Emitted(c, op), nil
	}
	c.applyLocked(op)
	return false, nil
}

// Did reports whether the client's command with this id has succeeded. Of ids that rise one by one, all that succeeded are remembered; of others,
// the 128 highest ranges.
func (c *Connection) Did(command uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Done.has(command)
}

// Done remembers that the client's command with this id has succeeded.
func (c *Connection) Done(command uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase != PhaseClosed {
		c.applyLocked(Op{Kind: OpDone, Sequence: command})
	}
}

// maxReplies bounds the bytes that wait for a client which sends commands and does not read the answers.
const maxReplies = 64 << 10

// Reply has the link write a frame in front of the messages that wait: an answer to the client. It is for the link whose Turn it is, otherwise
// for the present one; if that is gone, it is dropped. The caller does not change frame any more. A client that lets 64 KiB of answers wait
// is closed (CauseSlow). Beyond 1 KiB they count in the budgets of bytes that are held. Error: ErrClosed.
func (c *Connection) Reply(frame []byte) error {
	c.mu.Lock()
	link := c.link
	switch {
	case c.state.Phase == PhaseClosed:
		c.mu.Unlock()
		return ErrClosed
	case link == nil, c.numbering != nil && c.numbering.turn.isOfOther(link):
		c.mu.Unlock()
		return nil
	case c.first == nil:
		c.putFirstLocked(frame)
	case len(*c.first)+len(frame) > maxReplies:
		c.closeLocked(NewClose(CauseSlow))
		c.mu.Unlock()
		c.closeLink(link, NewClose(CauseSlow))
		return ErrClosed
	default:
		c.putFirstLocked(append(*c.first, frame...))
	}
	waits := firstWeight(c.first) > 0
	c.mu.Unlock()
	link.Flush()
	if waits {
		c.hub().holdings.bound(c.namespace)
	}
	return nil
}

// putFirstLocked says what the link writes before messages. It changes the budgets.
func (c *Connection) putFirstLocked(frames []byte) {
	before := firstWeight(c.first)
	c.first = nil
	if len(frames) > 0 {
		c.first = &frames
	}
	if more := firstWeight(c.first) - before; more != 0 {
		c.namespace.hold(more)
	}
}

// firstUncounted is how many bytes of greeting and replies are not in the budgets: a client that reads has fewer, and does without the counters
// that all share.
const firstUncounted = 1 << 10

// firstWeight is what greeting and replies take in the budgets.
func firstWeight(first *[]byte) int64 {
	if first == nil || len(*first) <= firstUncounted {
		return 0
	}
	return int64(len(*first))
}
