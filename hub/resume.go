package hub

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/connhub/connhub/hub/transfer"
)

// Tokens. A client shows a token to resume, and the greeting of its new link has the next token.
// The token that it showed stays valid until it shows the next token: the greeting may be lost.
//
// A request may be carried out late, or twice: at two hubs, or by a proxy that repeats it. So two
// links whose requests showed the same token may be greeted. The client reads one of the greetings,
// and not always the last. Both have the same next token, made from Resumption.Key and the token
// shown. So a request that no client waits for may take the link from the client, but never the
// connection.

// Resume is a client's right to have its connection back.
type Resume struct {
	// Connection is the client's connection.
	Connection *Connection

	token  string
	proven [sha256.Size]byte // the hash of token
	// given is the hash of the newest token, and link the link, at the time of the request.
	given [sha256.Size]byte
	link  Link
}

// Bind gives the connection a new link. See Connection.Bind. Bind returns ErrResumeRefused if a
// link was bound since Resume: the client may have given up the request of l, and asked again. A
// client that still waits for l asks again with the token that it has.
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
	r := &Resume{Connection: c, token: token, proven: sha256.Sum256([]byte(token))}
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
	r.given, r.link = have.Given, c.link
	given := subtle.ConstantTimeCompare(r.proven[:], have.Given[:])
	return given|subtle.ConstantTimeCompare(r.proven[:], have.Proven[:]) == 1, c.state.isFrozen()
}

// isOvertakenLocked reports whether a link was bound since the client asked. A link that has ended
// since, and whose client showed the same token, does not count. The connection's mu must be held.
func (r *Resume) isOvertakenLocked() bool {
	c := r.Connection
	have := c.state.Resumption
	return have == nil || have.Given != r.given || c.link != nil && c.link != r.link
}

const (
	// resumeTokenBytes is the size of a resume token: 128 random bits.
	resumeTokenBytes = 16
	// resumeKeyBytes is the size of the key that makes tokens: 128 random bits.
	resumeKeyBytes = 16
)

// nextGreeting returns the Resumption of a connection that gets a link, and the token for the
// greeting of the link. back is the request of a client that comes back, or nil: then r is nil.
func (r *Resumption) nextGreeting(back *Resume) (next *Resumption, token string) {
	next = &Resumption{}
	if back == nil {
		_, _ = rand.Read(next.Key[:]) // never fails: crypto/rand ends the process instead
		token = randomID(resumeTokenBytes)
	} else {
		next.Key, next.Proven = r.Key, back.proven
		token = tokenAfter(next.Key, back.token)
	}
	next.Given = sha256.Sum256([]byte(token))
	return next, token
}

// tokenAfter returns the token for the greeting of a client that showed a token.
func tokenAfter(key [resumeKeyBytes]byte, shown string) string {
	mac := hmac.New(sha256.New, key[:])
	_, _ = mac.Write([]byte(shown)) // never fails
	return idEncoding.EncodeToString(mac.Sum(nil)[:resumeTokenBytes])
}
