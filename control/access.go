package control

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/auth"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// defaultTokenTTL is how long a client token may be used when a request does not say.
const defaultTokenTTL = time.Hour

// maxTokenBytes is the longest token that is given out. It travels in the URL of a request whose header, with
// all that a browser adds, the edge reads up to 16 KiB.
const maxTokenBytes = 12 << 10

type accessService struct {
	controlv1.UnimplementedAccessServiceServer
	tokens    *auth.TokenKey // nil: no key
	publicURL *url.URL       // what clients see of this hub
}

// IssueClientToken implements the RPC.
func (s *accessService) IssueClientToken(_ context.Context, req *controlv1.IssueClientTokenRequest) (*controlv1.IssueClientTokenResponse, error) {
	if s.tokens == nil {
		return nil, errNoSigningKey
	}
	ttl := defaultTokenTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	roles, err := auth.ParseRoles(req.GetRoles())
	if err != nil {
		return nil, &fieldError{errInvalidField, "roles", "have a group or pattern that is not allowed: " + err.Error()}
	}
	// Tokens know whole seconds: round up, so that a token never lives shorter than asked.
	expires := time.Now().Add(ttl + time.Second - 1).Truncate(time.Second)
	audience := auth.Audience(s.publicURL, namespace(req))
	token, err := s.tokens.Sign(audience, auth.Claims{User: req.GetUser(), Groups: req.GetGroups(), Roles: roles, Expires: expires})
	if err != nil {
		return nil, err
	}
	if len(token) > maxTokenBytes {
		return nil, &fieldError{
			errLimitExceeded, "groups",
			fmt.Sprintf("with roles, make a token of %d bytes, must be at most %d", len(token), maxTokenBytes),
		}
	}
	return &controlv1.IssueClientTokenResponse{
		Token:      token,
		Url:        "ws" + strings.TrimPrefix(audience, "http") + "?access_token=" + token,
		ExpireTime: timestamppb.New(expires),
	}, nil
}
