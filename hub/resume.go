package hub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
)

// Resume is a client that may have its connection back.
type Resume struct {
	Connection *Connection

	proven [sha256.Size]byte
	given  [sha256.Size]byte // the newest token when the client asked
}

// Bind gives the connection a new link. See Connection.Bind. Bind returns ErrResumeRefused if a
// link was bound since Resume. The client may have given up the request of l, and asked again: then
// the token in the greeting of l would replace the token that the client has by now. A client that
// still waits for l asks again with the token that it has.
func (r *Resume) Bind(l Link) error { return r.Connection.bind(l, r) }

// Resume finds the connection that a client wants back, by the token of its last greeting, or of the one before if the last never
// reached it. The caller binds a new link; until then nothing changes. Errors: ErrConnectionNotFound, ErrResumeRefused,
// ErrShuttingDown, that of ctx.
func (h *Hub) Resume(ctx context.Context, namespace, id, token string) (*Resume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.Leaving() {
		return nil, ErrShuttingDown
	}
	c, err := h.connection(namespace, id)
	if err != nil {
		return nil, err
	}
	r := &Resume{Connection: c, proven: sha256.Sum256([]byte(token))}
	if !r.showsToken() {
		return nil, ErrResumeRefused
	}
	return r, nil
}

// showsToken reports whether the token is one that the client may have.
func (r *Resume) showsToken() bool {
	c := r.Connection
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.state.Resumption
	if have == nil || c.state.Phase == PhaseClosed || r.proven == [sha256.Size]byte{} {
		return false
	}
	r.given = have.Given
	return subtle.ConstantTimeCompare(r.proven[:], have.Given[:])|
		subtle.ConstantTimeCompare(r.proven[:], have.Proven[:]) == 1
}

// isOvertaken reports whether a link was bound since the client asked. c.mu must be held.
func (r *Resume) isOvertaken(have *Resumption) bool { return have == nil || have.Given != r.given }

// resumeTokenBytes is the size of a resume token: 128 random bits.
const resumeTokenBytes = 16
