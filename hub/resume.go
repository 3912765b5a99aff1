package hub

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/connhub/connhub/hub/transfer"
)

// Resume is a client's right to have its connection back.
type Resume struct {
	// Connection is the client's connection.
	Connection *Connection

	proven [sha256.Size]byte
	// given is the hash of the newest token at the time of the request.
	given [sha256.Size]byte
}

// Bind gives the connection a new link. See Connection.Bind. Bind returns ErrResumeRefused if a
// link was bound since Resume. The client may have given up the request of l, and asked again: then
// the token in the greeting of l would replace the token that the client has by now. A client that
// still waits for l asks again with the token that it has.
func (r *Resume) Bind(l Link) error { return r.Connection.bindLink(l, r) }

// Resume finds a client's connection by the token of its last greeting. The token before is valid,
// too: the last greeting may be lost. The caller binds a new link; until then nothing changes. It
// returns ErrConnectionNotFound, ErrResumeRefused, ErrShuttingDown, the error of ctx, or
// transfer.ErrMoving while the connection moves to a different hub.
func (h *Hub) Resume(ctx context.Context, namespace, id, token string) (*Resume, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if h.Leaving() {
		return nil, ErrShuttingDown
	}
	c, err := h.findConnection(namespace, id)
	if err != nil {
		return nil, err
	}
	r := &Resume{Connection: c, proven: sha256.Sum256([]byte(token))}
	switch shows, moves := r.showsToken(); {
	case !shows:
		return nil, ErrResumeRefused
	case moves:
		return nil, transfer.ErrMoving
	}
	return r, nil
}

// showsToken reports whether the client has a valid token, and whether the connection moves.
func (r *Resume) showsToken() (shows, moves bool) {
	c := r.Connection
	c.mu.Lock()
	defer c.mu.Unlock()
	have := c.state.Resumption
	if have == nil || c.state.Phase == PhaseClosed || r.proven == [sha256.Size]byte{} {
		return false, false
	}
	r.given = have.Given
	given := subtle.ConstantTimeCompare(r.proven[:], have.Given[:])
	return given|subtle.ConstantTimeCompare(r.proven[:], have.Proven[:]) == 1, c.state.isFrozen()
}

// isOvertaken reports whether a link was bound since the client asked. c.mu must be held.
func (r *Resume) isOvertaken(have *Resumption) bool { return have == nil || have.Given != r.given }

// resumeTokenBytes is the size of a resume token: 128 random bits.
const resumeTokenBytes = 16
