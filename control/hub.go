package control

import (
	"context"
	"slices"
	"time"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/control/port"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// drainRow returns the row of DrainHub for a peer. It is no verb, because it has no target.
func drainRow(d fleet.Drainer) verbRow {
	return verbRow{execute: func(
		_ context.Context, _ *executor, _ *peerv1.Forward, scope mesh.Scope,
	) mesh.Execution {
		if scope.Only != "" {
			return notForThisHub()
		}
		return finishedExecution(fleet.AnswerDrain(d))
	}}
}

// notForThisHub answers a call for a hub, which follows a connection to this one. A peer that knows
// no better may send it here.
func notForThisHub() mesh.Execution {
	return finishedExecution(errorResult(failure.ErrHubNotFound))
}

// rebalanceRow returns the row of RebalanceHubs for a peer.
func rebalanceRow(b fleet.Rebalancer) verbRow {
	return verbRow{execute: func(
		_ context.Context, _ *executor, f *peerv1.Forward, scope mesh.Scope,
	) mesh.Execution {
		if scope.Only != "" {
			return notForThisHub()
		}
		result, err := fleet.AnswerRebalance(b, f.GetRebalance())
		if err != nil {
			result = errorResult(err)
		}
		return finishedExecution(result)
	}}
}

// callPeer implements fleet.CallPeer.
func (r *router) callPeer(
	ctx context.Context, peer hub.ID, f *peerv1.Forward,
) (result *peerv1.ForwardResult, _ error) {
	if r.mesh == nil {
		return nil, failure.ErrHubNotFound
	}
	route := r.mesh.Route(mesh.Query{Hubs: []hub.ID{peer}})
	i := slices.IndexFunc(route.To, func(d mesh.Destination) bool { return d.Hub == peer })
	switch {
	case i < 0 && slices.Contains(route.Unreachable, peer):
		return nil, failure.ErrHubsUnreachable
	case i < 0:
		return nil, failure.ErrHubNotFound
	}
	now := time.Now()
	call := &mesh.Call{
		Caller: port.CallerOf(ctx).Name, Began: now, Since: permissionsVersion, Forward: f,
	}
	_, err := r.gatherAnswers(ctx, r.mesh.Forward(call, route.To[i:i+1]), now.Add(verbTimeout),
		func(answer *peerv1.ForwardResult) { result = answer })
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	case result == nil:
		return nil, failure.ErrHubsUnreachable
	}
	return result, nil
}
