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

// hubRow returns the row of a call for a hub, whatever its connections are. It is no verb, because
// it has no target. A peer that knows no better may send the call on behind a connection that has
// moved: then it is not for this hub.
func hubRow(answer func(*peerv1.Forward) (*peerv1.ForwardResult, error)) verbRow {
	return verbRow{execute: func(
		_ context.Context, _ *executor, f *peerv1.Forward, scope mesh.Scope,
	) mesh.Execution {
		if scope.Only != "" {
			return finishedExecution(errorResult(failure.ErrHubNotFound))
		}
		result, err := answer(f)
		if err != nil {
			result = errorResult(err)
		}
		return finishedExecution(result)
	}}
}

// drainRow returns the row of DrainHub for a peer.
func drainRow(d fleet.Drainer) verbRow {
	return hubRow(func(*peerv1.Forward) (*peerv1.ForwardResult, error) {
		return fleet.AnswerDrain(d), nil
	})
}

// rebalanceRow returns the row of RebalanceHubs for a peer.
func rebalanceRow(b fleet.Rebalancer) verbRow {
	return hubRow(func(f *peerv1.Forward) (*peerv1.ForwardResult, error) {
		return fleet.AnswerRebalance(b, f.GetRebalance())
	})
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
