package edge

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/names"
)

// Names in the query of a client's URL.
const (
	queryToken = "access_token"
	queryUser  = "user"  // in Anonymous mode
	queryGroup = "group" // in Anonymous mode; repeated
)

// clientIdentity is the user, groups and claims that a client starts with.
type clientIdentity struct {
	user   string
	groups []string
	claims hub.Claims
}

// roles adapts auth.Roles to permission.Roles.
type roles struct{ *auth.Roles }

var _ permission.Roles = roles{}

// Allows implements permission.Roles.
func (r roles) Allows(p permission.Permission) bool {
	what := auth.JoinLeaveGroup
	if p.Action == permission.SendToGroup {
		what = auth.SendToGroup
	}
	if p.Group == "" {
		return r.AllowAll(what)
	}
	return r.Allow(what, p.Group)
}

// everything holds the claims of clients that need no token. All of them share it.
var everything = &hub.Claims{Roles: roles{auth.Everything()}}

// keptClaims returns the claims for a connection to keep. It returns a shared value or nil where it
// can: most connections have no claims of their own.
func (w *clientIdentity) keptClaims() *hub.Claims {
	c := w.claims
	switch rolesAlone := c.Labels == nil && c.Expires.IsZero() && c.Private == ""; {
	case rolesAlone && c.Roles == everything.Roles:
		return everything
	case rolesAlone && c.Roles == roles{}:
		return nil
	default:
		return &c
	}
}

// RestoreClaims returns the claims of a client that another hub has let in, with the roles of these
// names: nil if nothing is left. Clients whose claims are equal may share them. It returns an error
// if this hub does not know a role. It is safe for concurrent use.
func RestoreClaims(roleNames []string, claims hub.Claims) (*hub.Claims, error) {
	parsed, err := auth.ParseKnownRoles(roleNames)
	claims.Roles = roles{parsed}
	return (&clientIdentity{claims: claims}).keptClaims(), err
}

// authenticateClient returns the identity of a client that asks to connect to a namespace.
func (s *Server) authenticateClient(
	r *http.Request, query url.Values, namespace string,
) (clientIdentity, *requestRefusal) {
	token := query.Get(queryToken)
	if token == "" {
		token = auth.BearerSecret(r.Header.Get("Authorization"))
	}
	switch {
	case token != "" && s.config.Tokens != nil:
		return s.verifyToken(r.Context(), token, namespace)
	case s.config.Anonymous:
		return identifyAnonymous(query)
	default:
		return clientIdentity{}, newRefusal(reasonTokenMissing)
	}
}

func (s *Server) verifyToken(
	ctx context.Context, token, namespace string,
) (clientIdentity, *requestRefusal) {
	// A client can make up the id of a key. So it gives up its place in the lobby while the hub
	// looks for the key.
	around := func(wait func(context.Context)) { lobby.WaitInLine(ctx, wait) }
	claims, err := s.config.Tokens.VerifyAround(token, auth.Audience(s.config.PublicURL, namespace),
		around)
	switch {
	case err == nil:
		w := clientIdentity{user: claims.User, groups: claims.Groups}
		w.claims.Roles, w.claims.Labels = roles{claims.Roles}, claims.Labels
		if s.config.EndAtExpiry {
			// from then on Tokens rejects it
			w.claims.Expires = claims.Expires.Add(auth.ClockLeeway)
		}
		return w, nil
	case errors.Is(err, auth.ErrTokenExpired):
		return clientIdentity{}, newRefusal(reasonTokenExpired)
	case errors.Is(err, auth.ErrClaimInvalid):
		return clientIdentity{}, newRefusal(reasonName).withDetail(err.Error())
	default:
		return clientIdentity{}, newRefusal(reasonTokenInvalid).withDetail(err.Error())
	}
}

func identifyAnonymous(query url.Values) (clientIdentity, *requestRefusal) {
	w := clientIdentity{user: query.Get(queryUser), groups: query[queryGroup], claims: *everything}
	if err := names.Check(w.user); w.user != "" && err != nil {
		return clientIdentity{},
			newRefusal(reasonName).withDetail("user: invalid name: " + err.Error())
	}
	if len(w.groups) > hub.MaxGroups {
		return clientIdentity{}, newRefusal(reasonGroupLimit)
	}
	for _, g := range w.groups {
		if err := names.Check(g); err != nil {
			return clientIdentity{},
				newRefusal(reasonName).withDetail("group: invalid name: " + err.Error())
		}
	}
	return w, nil
}
