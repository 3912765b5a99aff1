package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
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
	roles  *auth.Roles
	labels map[string]string

	// expires is when the token would not be taken any more; zero: never. It is set only with EndAtExpiry.
	expires time.Time
}

// authenticate tells who asks to connect to a namespace.
func (s *Server) authenticate(r *http.Request, namespace string) (who, *refusal) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return who{}, refuse(reasonNotUpgrade).because("the query is malformed")
	}
	token := query.Get(queryToken)
	if token == "" {
		token = bearer(r.Header)
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

func bearer(h http.Header) string {
	scheme, token, ok := strings.Cut(h.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (s *Server) verify(ctx context.Context, token, namespace string) (who, *refusal) {
	claims, err := s.config.Tokens.Verify(ctx, token, auth.Audience(s.config.PublicURL, namespace))
	switch {
	case err == nil:
		w := who{user: claims.User, groups: claims.Groups, roles: claims.Roles, labels: claims.Labels}
		if s.config.EndAtExpiry {
			w.expires = claims.Expires.Add(auth.ClockLeeway)
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
	w := who{user: query.Get(queryUser), groups: query[queryGroup], roles: auth.Everything()}
	if w.user != "" {
		if err := checkName(w.user); err != nil {
			return who{}, refuse(reasonName).because("user: " + err.Error())
		}
	}
	if len(w.groups) > hub.MaxGroups {
		return who{}, refuse(reasonGroupLimit)
	}
	for _, g := range w.groups {
		if err := checkName(g); err != nil {
			return who{}, refuse(reasonName).because("group: " + err.Error())
		}
	}
	return w, nil
}

var errName = errors.New("invalid name")

// checkName holds the rule for names of users and groups, the same as in the API and in tokens.
func checkName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", errName)
	case len(name) > hub.MaxName:
		return fmt.Errorf("%w: %d bytes, want at most %d", errName, len(name), hub.MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: not UTF-8", errName)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: control character", errName)
	}
	return nil
}
