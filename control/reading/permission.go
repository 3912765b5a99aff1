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
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	sum, hasMoves, err := r.countPermissions(ctx, req, false)
	for tries := 0; err == nil && hasMoves && isWorthATry(tries, int(sum.GetMatched())); tries++ {
		var again *controlv1.CheckPermissionsResponse
		again, hasMoves, err = r.countPermissions(ctx, req, true)
		if err == nil && (sum.GetMatched() == 0 || again.GetMatched() > 0) &&
			len(again.GetUnreachableHubs()) <= len(sum.GetUnreachableHubs()) {
			sum = again
		}
	}
	return sum, err
}

// countPermissions asks for the counts. again says that the hubs were asked before. The sum may be
// wrong if hasMoves.
func (r *Reader) countPermissions(
	ctx context.Context, req *controlv1.CheckPermissionsRequest, again bool,
) (sum *controlv1.CheckPermissionsResponse, hasMoves bool, _ error) {
	target := form.NewTarget(req.GetTarget())
	ask, unreachable := r.hubsFor(form.NamespaceOf(req), &target, again)
	sum, err := localPermissions(ctx, r.hub, req)
	if err != nil {
		return nil, false, err
	}
	answers, lost := r.askHubs(ctx, ask, &peerv1.ReadRequest{
		Read: &peerv1.ReadRequest_Permissions{Permissions: req},
	})
	for _, p := range answers {
		sum.Matched = form.AddCounts(sum.Matched, p.response.GetPermissions().GetMatched())
		sum.Allowed = form.AddCounts(sum.Allowed, p.response.GetPermissions().GetAllowed())
	}
	sum.UnreachableHubs = form.HubNames(append(lost, unreachable...))
	sum.DiscoveryStaleFor = form.StaleFor(r.mesh.StaleFor())
	return sum, r.hasMoves(answers), nil
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
