package control

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// verbTimeout bounds how long a call waits for other hubs where the API has no wait_timeout. It is
// ten times the time that a join may need to be in force.
const verbTimeout = 5 * time.Second

// verb is a method of the control API that acts on connections at every hub: a join, a leave, a
// close, a grant, a revocation. Q is its request and R its response.
//
// The entry hub is the hub that a backend called. callEverywhere runs there: it forwards the call
// to the hubs that may have matching connections, does its own part, and adds up the parts.
// executeVerb runs at each of these hubs. A new verb is a field in each oneof of forward.proto, a
// verb of this type, and a row in newVerbTable. A send has the same walk but code of its own: it
// must not allocate, and it waits for clients (router.Send, executor.executeSend).
type verb[Q verbRequest, R proto.Message] struct {
	// since is the version of the peer protocol that brought the verb. Older hubs count as
	// unreachable.
	since uint32
	// wrap returns the call for other hubs. request is the encoded request.
	wrap func(request []byte) *peerv1.Forward
	// carryOut does this hub's part. The part is in force at every hub when carryOut returns.
	carryOut func(ctx context.Context, h *hub.Hub, request Q) (part R, err error)
	// begin is carryOut without its wait, for the lane of a peer, whose calls must not wait: the
	// steps that must be in order are done when begin returns, and then reports when the part is in
	// force. then may be nil. begin is nil where carryOut does not wait.
	begin func(ctx context.Context, h *hub.Hub, request Q) (part R, then inForce, err error)
	// result returns the part of this hub for the entry hub.
	result func(part R) *peerv1.ForwardResult
	// partOf returns the part of another hub.
	partOf func(*peerv1.ForwardResult) R
	// add adds the part of another hub to the sum.
	add func(sum, part R)
	// setGaps writes the gaps into the sum.
	setGaps func(sum R, g gaps)
}

// gaps says how an answer of many hubs is incomplete.
type gaps struct {
	// unreachableHubs are the hubs whose part is unknown, in order.
	unreachableHubs []string
	// staleFor is for how long the list of hubs has not been confirmed; nil: it is current.
	staleFor *durationpb.Duration
}

// verbRequest is the request of a verb.
type verbRequest interface {
	proto.Message
	GetNamespace() string
	GetTarget() *controlv1.Target
}

// inForce calls done once: when a change is in force at every hub, or with the reason why it will
// not be. The call may come at once, or from a goroutine that holds locks. forget calls it off.
type inForce = func(done func(error)) (forget func())

// callEverywhere calls a verb at every hub that may have matching connections.
func callEverywhere[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q,
) (R, error) {
	target := form.NewTarget(request.GetTarget())
	return callAlong(ctx, r, v, request, r.mesh.RouteFor(form.NamespaceOf(request), &target))
}

// callAlong calls a verb at this hub and at the hubs of a route.
func callAlong[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, route mesh.Route,
) (R, error) {
	sum, lost, err := sumAlong(ctx, r, v, request, route)
	if err == nil {
		unreachable := form.HubNames(append(lost, route.Unreachable...))
		v.setGaps(sum, gaps{unreachable, form.StaleFor(r.mesh.StaleFor())})
	}
	return sum, err
}

// sumAlong adds up the parts of this hub and of the hubs of a route. lost are the hubs whose part
// is unknown. A hub that is behind holds the caller up, at most for verbTimeout.
func sumAlong[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, route mesh.Route,
) (sum R, lost []hub.ID, _ error) {
	var none R
	until := time.Now().Add(verbTimeout)
	var others *mesh.Gathering
	if len(route.To) > 0 {
		call, err := newVerbCall(ctx, v, request)
		if err != nil {
			return none, nil, err
		}
		others = r.mesh.Forward(call, route.To)
	}
	sum, err := v.carryOut(ctx, r.hub, request)
	if err != nil {
		return none, nil, err
	}
	addPart := func(f *peerv1.ForwardResult) { v.add(sum, v.partOf(f)) }
	if lost, err = r.gatherAnswers(ctx, others, until, addPart); err != nil {
		return none, nil, err
	}
	return sum, lost, nil
}

// newVerbCall encodes a request for other hubs, with its namespace written out. It changes the
// request.
func newVerbCall[Q verbRequest, R proto.Message](
	ctx context.Context, v *verb[Q, R], request Q,
) (*mesh.Call, error) {
	m := request.ProtoReflect()
	namespace := m.Descriptor().Fields().ByName("namespace")
	m.Set(namespace, protoreflect.ValueOfString(form.NamespaceOf(request)))
	b, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	return &mesh.Call{
		Caller: port.CallerOf(ctx).Name, Began: time.Now(), Since: v.since, Forward: v.wrap(b),
	}, nil
}

// execution carries out a forwarded call at this hub.
type execution func(context.Context, *executor, *peerv1.Forward) mesh.Execution

// verbTable has the verbs by their kind (mesh.KindOf), all but send.
type verbTable map[string]execution

// newVerbTable returns the verbs of the control API.
func newVerbTable() verbTable {
	return verbTable{
		"join":   executionOf(&joinVerb, (*peerv1.Forward).GetJoin),
		"leave":  executionOf(&leaveVerb, (*peerv1.Forward).GetLeave),
		"grant":  executionOf(&grantVerb, (*peerv1.Forward).GetGrant),
		"revoke": executionOf(&revokeVerb, (*peerv1.Forward).GetRevoke),
		"close": func(ctx context.Context, e *executor, f *peerv1.Forward) mesh.Execution {
			v := &closeVerb
			if f.GetClose().GetCountOnly() {
				v = &countVerb
			}
			return executeVerb(ctx, e, v, f, f.GetClose().GetRequest())
		},
	}
}

// executionOf returns the execution of a verb whose encoded request requestIn returns.
func executionOf[Q verbRequest, R proto.Message](
	v *verb[Q, R], requestIn func(*peerv1.Forward) []byte,
) execution {
	return func(ctx context.Context, e *executor, f *peerv1.Forward) mesh.Execution {
		return executeVerb(ctx, e, v, f, requestIn(f))
	}
}

// executeVerb does this hub's part of a verb. encoded is the request that the entry hub encoded.
func executeVerb[Q verbRequest, R proto.Message](
	ctx context.Context, e *executor, v *verb[Q, R], f *peerv1.Forward, encoded []byte,
) mesh.Execution {
	var kind Q
	request, _ := kind.ProtoReflect().New().Interface().(Q)
	if err := errors.Join(decodeForwarded(encoded, request), e.check(request)); err != nil {
		return finishedExecution(errorResult(err))
	}
	var part R
	var then inForce
	var err error
	if v.begin != nil {
		part, then, err = v.begin(ctx, e.hub, request)
	} else {
		part, err = v.carryOut(ctx, e.hub, request)
	}
	if err != nil {
		return finishedExecution(errorResult(err))
	}
	result := v.result(part)
	if then == nil {
		return finishedExecution(result)
	}
	outcome := make(chan error, 1)
	return mesh.Execution{
		Until: acceptedAt(f).Add(verbTimeout), // the entry hub waits no longer
		Awaited: mesh.AwaitedFunc(func(done func()) (stop func()) {
			return then(func(err error) { outcome <- err; done() })
		}),
		Result: func() *peerv1.ForwardResult {
			select {
			case err := <-outcome:
				if err != nil {
					return errorResult(err)
				}
				return result
			default:
				return errorResult(context.DeadlineExceeded)
			}
		},
	}
}
