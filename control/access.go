package control

import (
	"context"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
)

// defaultTokenTTL is the life of a client token whose request sets no ttl.
const defaultTokenTTL = time.Hour

// maxTokenBytes bounds a client token. The token travels in the URL of a request. The edge reads 16
// KiB of that request's header, and a browser adds fields to it.
const maxTokenBytes = 12 << 10

type accessService struct {
	controlv1.UnimplementedAccessServiceServer
	tokens    *auth.TokenKey // nil: the hub has no signing key
	publicURL *url.URL       // the address at which clients reach the hubs
	router    *router
	reader    *reading.Reader
}

// IssueClientToken implements the RPC.
func (s *accessService) IssueClientToken(
	_ context.Context, req *controlv1.IssueClientTokenRequest,
) (*controlv1.IssueClientTokenResponse, error) {
	if s.tokens == nil {
		return nil, failure.ErrNoSigningKey
	}
	ttl := defaultTokenTTL
	if req.GetTtl() != nil {
		ttl = req.GetTtl().AsDuration()
	}
	roles, err := auth.ParseRoles(req.GetRoles())
	if err != nil {
		return nil, failure.InvalidField(
			"roles", "have a group or pattern that is not allowed: "+err.Error())
	}
	// Tokens have whole seconds: round up, so that a token never lives shorter than asked.
	expires := time.Now().Add(ttl + time.Second - 1).Truncate(time.Second)
	audience := auth.Audience(s.publicURL, form.NamespaceOf(req))
	token, err := s.tokens.Sign(audience, auth.Claims{
		User: req.GetUser(), Groups: req.GetGroups(), Roles: roles, Labels: req.GetLabels(),
		Expires: expires,
	})
	if err != nil {
		return nil, err
	}
	if len(token) > maxTokenBytes {
		return nil, failure.LimitExceeded("groups",
			"with roles and labels, make a token of %d bytes, must be at most %d",
			len(token), maxTokenBytes)
	}
	return &controlv1.IssueClientTokenResponse{
		Token:      token,
		Url:        "ws" + strings.TrimPrefix(audience, "http") + "?access_token=" + token,
		ExpireTime: timestamppb.New(expires),
	}, nil
}

// GrantPermissions implements the RPC.
func (s *accessService) GrantPermissions(
	ctx context.Context, req *controlv1.GrantPermissionsRequest,
) (*controlv1.GrantPermissionsResponse, error) {
	return callEverywhere(ctx, s.router, &grantVerb, req)
}

// RevokePermissions implements the RPC.
func (s *accessService) RevokePermissions(
	ctx context.Context, req *controlv1.RevokePermissionsRequest,
) (*controlv1.RevokePermissionsResponse, error) {
	return callEverywhere(ctx, s.router, &revokeVerb, req)
}

// CheckPermissions implements the RPC.
func (s *accessService) CheckPermissions(
	ctx context.Context, req *controlv1.CheckPermissionsRequest,
) (*controlv1.CheckPermissionsResponse, error) {
	return s.reader.CheckPermissions(ctx, req)
}

// permissionsVersion is the version of the peer protocol that brought grants and revocations. A hub
// of version 1 would end the link at a grant.
const permissionsVersion = 2

// grantVerb gives connections permissions.
var grantVerb = verb[*controlv1.GrantPermissionsRequest, *controlv1.GrantPermissionsResponse]{
	since: permissionsVersion,
	wrap: func(request []byte) *peerv1.Forward {
		return &peerv1.Forward{Call: &peerv1.Forward_Grant{Grant: request}}
	},
	begin: func(
		ctx context.Context, h *hub.Hub, req *controlv1.GrantPermissionsRequest, target *hub.Target,
	) (*controlv1.GrantPermissionsResponse, inForce, error) {
		grants := newGrants(req.GetPermissions(), false)
		permitted, err := h.Permit(ctx, form.NamespaceOf(req), target, grants)
		return newGranted(permitted), nil, err
	},
	result: func(part *controlv1.GrantPermissionsResponse) *peerv1.ForwardResult {
		return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Grant{Grant: part}}
	},
	partOf: (*peerv1.ForwardResult).GetGrant,
	add: func(sum, part *controlv1.GrantPermissionsResponse) {
		sum.Matched = form.AddCounts(sum.GetMatched(), part.GetMatched())
		sum.Changed = form.AddCounts(sum.GetChanged(), part.GetChanged())
		sum.Refused = form.AddCounts(sum.GetRefused(), part.GetRefused())
		sum.Closed = form.AddCounts(sum.GetClosed(), part.GetClosed())
		sum.Refusals = addRefusals(sum.GetRefusals(), part.GetRefusals())
	},
	setGaps: func(sum *controlv1.GrantPermissionsResponse, g gaps) {
		sum.UnreachableHubs, sum.DiscoveryStaleFor = g.unreachableHubs, g.staleFor
	},
}

// revokeVerb takes permissions from connections.
var revokeVerb = verb[*controlv1.RevokePermissionsRequest, *controlv1.RevokePermissionsResponse]{
	since: permissionsVersion,
	wrap: func(request []byte) *peerv1.Forward {
		return &peerv1.Forward{Call: &peerv1.Forward_Revoke{Revoke: request}}
	},
	begin: func(
		ctx context.Context, h *hub.Hub, req *controlv1.RevokePermissionsRequest,
		target *hub.Target,
	) (*controlv1.RevokePermissionsResponse, inForce, error) {
		grants := newGrants(req.GetPermissions(), true)
		permitted, err := h.Permit(ctx, form.NamespaceOf(req), target, grants)
		return newRevoked(permitted), nil, err
	},
	result: func(part *controlv1.RevokePermissionsResponse) *peerv1.ForwardResult {
		return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Revoke{Revoke: part}}
	},
	partOf: (*peerv1.ForwardResult).GetRevoke,
	add: func(sum, part *controlv1.RevokePermissionsResponse) {
		sum.Matched = form.AddCounts(sum.GetMatched(), part.GetMatched())
		sum.Changed = form.AddCounts(sum.GetChanged(), part.GetChanged())
		sum.Refused = form.AddCounts(sum.GetRefused(), part.GetRefused())
		sum.Closed = form.AddCounts(sum.GetClosed(), part.GetClosed())
		sum.Refusals = addRefusals(sum.GetRefusals(), part.GetRefusals())
	},
	setGaps: func(sum *controlv1.RevokePermissionsResponse, g gaps) {
		sum.UnreachableHubs, sum.DiscoveryStaleFor = g.unreachableHubs, g.staleFor
	},
}

func newGrants(all []*controlv1.Permission, revoked bool) []permission.Grant {
	list := make([]permission.Grant, len(all))
	for i, p := range form.NewPermissions(all) {
		list[i] = permission.Grant{Permission: p, Revoked: revoked}
	}
	return list
}

func newGranted(p hub.Permitted) *controlv1.GrantPermissionsResponse {
	return &controlv1.GrantPermissionsResponse{
		Matched: form.ClampCount(p.Matched), Changed: form.ClampCount(p.Changed),
		Refused: form.ClampCount(p.Refused), Closed: form.ClampCount(p.Closed),
		Refusals: newRefusals(p.Refusals),
	}
}

func newRevoked(p hub.Permitted) *controlv1.RevokePermissionsResponse {
	return &controlv1.RevokePermissionsResponse{
		Matched: form.ClampCount(p.Matched), Changed: form.ClampCount(p.Changed),
		Refused: form.ClampCount(p.Refused), Closed: form.ClampCount(p.Closed),
		Refusals: newRefusals(p.Refusals),
	}
}
