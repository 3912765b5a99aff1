package edge

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/internal/names"
)

// Names in the query of a client's URL.
const (
	queryToken = "access_token"
	queryUser  = "user"  // in Anonymous mode
	queryGroup = "group" // in Anonymous mode; repeated
)

// who is the client, and what it starts with.
type who struct {
	user   string
	groups []string
	claims hub.Claims
}

// roles are auth.Roles as the hub asks them.
type roles struct{ *auth.Roles }

var _ hub.Roles = roles{}

// Allows implements hub.Roles.
func (r roles) Allows(p hub.Permission) bool {
	what := auth.JoinLeaveGroup
	if p.Action == hub.SendToGroup {
		what = auth.SendToGroup
	}
	if p.Group == "" {
		return r.AllowAll(what)
	}
	return r.Allow(what, p.Group)
}

// everything is what clients may do where nobody needs a token; all of them share it.
var everything = &hub.Claims{Roles: roles{auth.Everything()}}

// kept returns the claims for a connection to keep: most have none of their own.
func (w *who) kept() *hub.Claims {
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

// authenticate tells who asks to connect to a namespace.
func (s *Server) authenticate(r *http.Request, query url.Values, namespace string) (who, *refusal) {
	token := query.Get(queryToken)
	if token == "" {
		token = auth.BearerSecret(r.Header.Get("Authorization"))
	}
	switch {
	case token != "" && s.config.Tokens != nil:
		return s.verify(r.Context(), token, namespace)
	case s.config.Anonymous:
		return anonymous(query)
	default:
		return who{}, refuse(reasonTokenMissing)
	}
}

func (s *Server) verify(ctx context.Context, token, namespace string) (who, *refusal) {
	// A stranger can make up the id of a key, so it does not keep its place in the lobby while the hub looks for the key.
	around := func(wait func(context.Context)) { lobby.WaitInLine(ctx, wait) }
	claims, err := s.config.Tokens.VerifyAround(token, auth.Audience(s.config.PublicURL, namespace), around)
	switch {
	case err == nil:
		w := who{user: claims.User, groups: claims.Groups}
		w.claims.Roles, w.claims.Labels = roles{claims.Roles}, claims.Labels
		if s.config.EndAtExpiry {
			w.claims.Expires = claims.Expires.Add(auth.ClockLeeway) // when it would not be taken any more
		}
		return w, nil
	case errors.Is(err, auth.ErrTokenExpired):
		return who{}, refuse(reasonTokenExpired)
	case errors.Is(err, auth.ErrClaimInvalid):
		return who{}, refuse(reasonName).because(err.Error())
	default:
		return who{}, refuse(reasonTokenInvalid).because(err.Error())
	}
}

func anonymous(query url.Values) (who, *refusal) {
	w := who{user: query.Get(queryUser), groups: query[queryGroup], claims: *everything}
	if w.user != "" {
		if err := names.Check(w.user); err != nil {
			return who{}, refuse(reasonName).because("user: invalid name: " + err.Error())
		}
	}
	if len(w.groups) > hub.MaxGroups {
		return who{}, refuse(reasonGroupLimit)
	}
	for _, g := range w.groups {
		if err := names.Check(g); err != nil {
			return who{}, refuse(reasonName).because("group: invalid name: " + err.Error())
		}
	}
	return w, nil
}
