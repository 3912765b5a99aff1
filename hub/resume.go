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
}

// Bind gives the connection a new link. See Connection.Bind.
func (r *Resume) Bind(l Link) error { return r.Connection.bind(l, r.proven) }

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
	r := &Resume{c, sha256.Sum256([]byte(token))}
	if !c.resumes(r.proven) {
		return nil, ErrResumeRefused
	}
	return r, nil
}

// resumes reports whether the token of this hash is one that the client may have.
func (c *Connection) resumes(hash [sha256.Size]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.state.Resumption
	return r != nil && c.state.Phase != PhaseClosed && hash != [sha256.Size]byte{} &&
		subtle.ConstantTimeCompare(hash[:], r.Given[:])|subtle.ConstantTimeCompare(hash[:], r.Proven[:]) == 1
}

// resumeTokenBytes is the size of a resume token: 128 random bits.
const resumeTokenBytes = 16
