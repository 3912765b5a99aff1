package reading

import (
	"context"

	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// CheckPermissions counts the matching connections of all hubs, and those of them that have the
// permissions. A target that names nothing means everyone.
func (r *Reader) CheckPermissions(
	ctx context.Context, req *controlv1.CheckPermissionsRequest,
) (*controlv1.CheckPermissionsResponse, error) {
	req.Target = form.OrEveryone(req.GetTarget())
	target := form.NewTarget(req.GetTarget())
	route := r.mesh.RouteFor(form.NamespaceOf(req), &target)
	sum, err := localPermissions(ctx, r.hub, req)
	if err != nil {
		return nil, err
	}
	answers, lost := r.askHubs(ctx, hubsOf(route.To), &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Permissions{Permissions: req},
	})
	for _, p := range answers {
		sum.Matched = form.AddCounts(sum.Matched, p.response.GetPermissions().GetMatched())
		sum.Allowed = form.AddCounts(sum.Allowed, p.response.GetPermissions().GetAllowed())
	}
	sum.UnreachableHubs = form.HubNames(append(lost, route.Unreachable...))
	sum.DiscoveryStaleFor = form.StaleFor(r.mesh.StaleFor())
	return sum, nil
}

func localPermissions(
	ctx context.Context, h *hub.Hub, req *controlv1.CheckPermissionsRequest,
) (*controlv1.CheckPermissionsResponse, error) {
	target := form.NewTarget(req.GetTarget())
	permissions := form.NewPermissions(req.GetPermissions())
	matched, allowed, err := h.Permits(ctx, form.NamespaceOf(req), &target, permissions)
	if err != nil {
		return nil, err
	}
	return &controlv1.CheckPermissionsResponse{
		Matched: form.ClampCount(matched), Allowed: form.ClampCount(allowed),
	}, nil
}
