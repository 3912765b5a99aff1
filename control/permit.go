package control

import (
	"context"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// This file is what clients may do, at every hub: how the hub that a backend called asks the others, and how these carry it out.

// Grant gives the connections that match, at whatever hub, permissions.
func (r *router) Grant(ctx context.Context, req *controlv1.GrantPermissionsRequest) (*controlv1.GrantPermissionsResponse, error) {
	call, err := newGrantCall(ctx, req)
	if err != nil {
		return nil, err
	}
	permitted, refusals, lost, err := r.permit(ctx, req, call, false)
	if err != nil {
		return nil, err
	}
	sum := newGranted(permitted)
	sum.Refusals = refusals
	sum.UnreachableHubs, sum.DiscoveryStaleFor = lost.names(), r.staleFor()
	return sum, nil
}

// Revoke takes permissions from the connections that match, at whatever hub.
func (r *router) Revoke(ctx context.Context, req *controlv1.RevokePermissionsRequest) (*controlv1.RevokePermissionsResponse, error) {
	call, err := newRevokeCall(ctx, req)
	if err != nil {
		return nil, err
	}
	permitted, refusals, lost, err := r.permit(ctx, req, call, true)
	if err != nil {
		return nil, err
	}
	sum := newRevoked(permitted)
	sum.Refusals = refusals
	sum.UnreachableHubs, sum.DiscoveryStaleFor = lost.names(), r.staleFor()
	return sum, nil
}

// permitRequest and permitResponse are what a grant and a revocation have in common.
type (
	permitRequest interface {
		proto.Message
		GetNamespace() string
		GetTarget() *controlv1.Target
		GetPermissions() []*controlv1.Permission
	}
	permitResponse interface {
		GetMatched() int32
		GetChanged() int32
		GetRefused() int32
		GetClosed() int32
		GetRefusals() []*controlv1.Refusal
	}
)

// permit does this hub's part, adds those of the others, and returns the hubs whose part is unknown. The refusals are those of all hubs.
func (r *router) permit(ctx context.Context, req permitRequest, call *mesh.Call, revoked bool) (hub.Permitted, []*controlv1.Refusal, unknown, error) {
	target := newTarget(req.GetTarget())
	route := r.route(namespace(req), &target)
	others := r.forward(call, route.To)
	sum, err := r.hub.Permit(ctx, namespace(req), &target, newGrants(req.GetPermissions(), revoked))
	if err != nil {
		return hub.Permitted{}, nil, nil, err
	}
	refusals := newRefusals(sum.Refusals)
	lost, err := r.gather(ctx, others, call.Began.Add(verbTimeout), func(f *peerv1.ForwardResult) {
		var part permitResponse = f.GetGrant()
		if revoked {
			part = f.GetRevoke()
		}
		sum.Matched += int(part.GetMatched())
		sum.Changed += int(part.GetChanged())
		sum.Refused += int(part.GetRefused())
		sum.Closed += int(part.GetClosed())
		refusals = addRefusals(refusals, part.GetRefusals())
	})
	return sum, refusals, append(lost, route.Unreachable...), err
}

// Check counts the connections that match, at whatever hub, and have permissions.
func (r *router) Check(ctx context.Context, req *controlv1.CheckPermissionsRequest) (*controlv1.CheckPermissionsResponse, error) {
	target := newTarget(req.GetTarget())
	route := r.route(namespace(req), &target)
	sum, err := localPermissions(ctx, r.hub, req)
	if err != nil {
		return nil, err
	}
	parts, lost := r.ask(ctx, hubsOf(route.To), &peerv1.ReadRequest{Read: &peerv1.ReadRequest_Permissions{Permissions: req}})
	for _, p := range parts {
		sum.Matched = plus(sum.Matched, p.response.GetPermissions().GetMatched())
		sum.Allowed = plus(sum.Allowed, p.response.GetPermissions().GetAllowed())
	}
	sum.UnreachableHubs, sum.DiscoveryStaleFor = append(lost, route.Unreachable...).names(), r.staleFor()
	return sum, nil
}

func localPermissions(ctx context.Context, h *hub.Hub, req *controlv1.CheckPermissionsRequest) (*controlv1.CheckPermissionsResponse, error) {
	target := newTarget(req.GetTarget())
	matched, allowed, err := h.Permits(ctx, namespace(req), &target, newPermissions(req.GetPermissions()))
	if err != nil {
		return nil, err
	}
	return &controlv1.CheckPermissionsResponse{Matched: count(matched), Allowed: count(allowed)}, nil
}

func newGrantCall(ctx context.Context, req *controlv1.GrantPermissionsRequest) (*mesh.Call, error) {
	b, err := proto.Marshal(&controlv1.GrantPermissionsRequest{
		Namespace: namespace(req), Target: req.GetTarget(), Permissions: req.GetPermissions(),
	})
	return newCall(ctx, &peerv1.Forward{Call: &peerv1.Forward_Grant{Grant: b}}), err
}

func newRevokeCall(ctx context.Context, req *controlv1.RevokePermissionsRequest) (*mesh.Call, error) {
	b, err := proto.Marshal(&controlv1.RevokePermissionsRequest{
		Namespace: namespace(req), Target: req.GetTarget(), Permissions: req.GetPermissions(),
	})
	return newCall(ctx, &peerv1.Forward{Call: &peerv1.Forward_Revoke{Revoke: b}}), err
}

func (e *executor) grant(ctx context.Context, b []byte) *peerv1.ForwardResult {
	var req controlv1.GrantPermissionsRequest
	permitted, err := e.permit(ctx, b, &req, false)
	if err != nil {
		return failed(err)
	}
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Grant{Grant: newGranted(permitted)}}
}

func (e *executor) revoke(ctx context.Context, b []byte) *peerv1.ForwardResult {
	var req controlv1.RevokePermissionsRequest
	permitted, err := e.permit(ctx, b, &req, true)
	if err != nil {
		return failed(err)
	}
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Revoke{Revoke: newRevoked(permitted)}}
}

func (e *executor) permit(ctx context.Context, b []byte, req permitRequest, revoked bool) (hub.Permitted, error) {
	if err := decode(b, req); err != nil {
		return hub.Permitted{}, err
	}
	if err := e.check(req); err != nil {
		return hub.Permitted{}, err
	}
	target := newTarget(req.GetTarget())
	return e.hub.Permit(ctx, namespace(req), &target, newGrants(req.GetPermissions(), revoked))
}
