package control

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/failure"
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
	// begin does this hub's part for the connections that target matches; the request's own target
	// does not count. The steps that must be in order are done when begin returns. It does not
	// wait: then reports when the part is in force at every hub; nil: it is.
	begin func(
		ctx context.Context, h *hub.Hub, request Q, target *hub.Target,
	) (part R, then inForce, err error)
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
	return callBut(ctx, r, v, request, nil)
}

// callBut is callEverywhere without some peers, whose part counts as unknown.
func callBut[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, without []hub.ID,
) (R, error) {
	sum, lost, err := sumEverywhere(ctx, r, v, request, without)
	if err == nil {
		v.setGaps(sum, gaps{form.HubNames(lost), form.StaleFor(r.mesh.StaleFor())})
	}
	return sum, err
}

// sumEverywhere adds up the parts of all hubs. lost are the hubs whose part is unknown, with those
// of without. A hub that is behind holds the caller up, at most for verbTimeout.
func sumEverywhere[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, without []hub.ID,
) (sum R, lost []hub.ID, _ error) {
	var none R
	until := time.Now().Add(verbTimeout)
	begun, err := beginVerb(ctx, r, v, request, without)
	if err != nil {
		return none, nil, err
	}
	sum = begun.part
	addPart := func(f *peerv1.ForwardResult) { v.add(sum, v.partOf(f)) }
	lost, err = r.gatherAnswers(ctx, begun.others, until, addPart)
	if err == nil && begun.then != nil {
		err = awaitInForce(ctx, begun.then)
	}
	if err != nil {
		return none, nil, err
	}
	return sum, append(lost, begun.unreachable...), nil
}

// begunVerb is a verb that has begun at all hubs.
type begunVerb[R proto.Message] struct {
	part        R               // of this hub, as far as it is not in others
	then        inForce         // of part; may be nil
	others      *mesh.Gathering // nil: no peer takes part
	unreachable []hub.ID        // their part is unknown from the start
}

// beginVerb begins a verb at this hub and at its peers, without those of without.
func beginVerb[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, without []hub.ID,
) (begun begunVerb[R], err error) {
	if !r.moves.EnterCall() {
		return beginWhileMoving(ctx, r, v, request, without)
	}
	defer r.moves.LeaveCall()
	target := form.NewTarget(request.GetTarget())
	route := r.mesh.RouteFor(form.NamespaceOf(request), &target)
	route.To = slices.DeleteFunc(route.To, func(d mesh.Destination) bool {
		return slices.Contains(without, d.Hub)
	})
	begun.unreachable = slices.Concat(route.Unreachable, without)
	if len(route.To) > 0 {
		call, err := newVerbCall(ctx, v, request)
		if err != nil {
			return begun, err
		}
		begun.others = r.mesh.Forward(call, route.To)
	}
	begun.part, begun.then, err = v.begin(ctx, r.hub, request, &target)
	return begun, err
}

// beginWhileMoving is beginVerb while connections move from this hub or to it. This hub's part is
// an outcome like those of peers. It can't leave out hubs.
func beginWhileMoving[Q verbRequest, R proto.Message](
	ctx context.Context, r *router, v *verb[Q, R], request Q, without []hub.ID,
) (begun begunVerb[R], err error) {
	if len(without) > 0 {
		return begun, failure.ErrHubsUnreachable
	}
	call, err := newVerbCall(ctx, v, request)
	if err != nil {
		return begun, err
	}
	target := form.NewTarget(request.GetTarget())
	others, route := r.moves.Forward(call, form.NamespaceOf(request), &target)
	return begunVerb[R]{newMessage[R](), nil, others, route.Unreachable}, nil
}

// newMessage returns an empty message of a type of pointers.
func newMessage[M proto.Message]() M {
	var kind M
	empty, _ := kind.ProtoReflect().New().Interface().(M)
	return empty
}

// awaitInForce waits until a change is in force, or ctx is done.
func awaitInForce(ctx context.Context, then inForce) error {
	outcome := make(chan error, 1)
	forget := then(func(err error) { outcome <- err })
	select {
	case err := <-outcome:
		return err
	case <-ctx.Done():
		forget()
		return ctx.Err()
	}
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

// verbRow is a verb in the table, without its types.
type verbRow struct {
	execute execution
	// add adds a part of this hub's result to the sum; nil: there are no parts.
	add func(sum, part *peerv1.ForwardResult)
}

// execution carries out a forwarded call at this hub.
type execution func(context.Context, *executor, *peerv1.Forward, mesh.Scope) mesh.Execution

// verbTable has the verbs by their kind (mesh.KindOf), all but send.
type verbTable map[string]verbRow

// newVerbTable returns the verbs of the control API.
func newVerbTable() verbTable {
	return verbTable{
		"join":   rowOf(&joinVerb, (*peerv1.Forward).GetJoin),
		"leave":  rowOf(&leaveVerb, (*peerv1.Forward).GetLeave),
		"grant":  rowOf(&grantVerb, (*peerv1.Forward).GetGrant),
		"revoke": rowOf(&revokeVerb, (*peerv1.Forward).GetRevoke),
		"close":  closeRow(),
	}
}

// closeRow returns the row of closes and of counts, whose results are alike.
func closeRow() verbRow {
	requestIn := func(f *peerv1.Forward) []byte { return f.GetClose().GetRequest() }
	row, count := rowOf(&closeVerb, requestIn), rowOf(&countVerb, requestIn)
	return verbRow{
		execute: func(
			ctx context.Context, e *executor, f *peerv1.Forward, scope mesh.Scope,
		) mesh.Execution {
			if f.GetClose().GetCountOnly() {
				return count.execute(ctx, e, f, scope)
			}
			return row.execute(ctx, e, f, scope)
		},
		add: row.add,
	}
}

// rowOf returns the row of a verb whose encoded request requestIn returns.
func rowOf[Q verbRequest, R proto.Message](
	v *verb[Q, R], requestIn func(*peerv1.Forward) []byte,
) verbRow {
	return verbRow{
		execute: func(
			ctx context.Context, e *executor, f *peerv1.Forward, scope mesh.Scope,
		) mesh.Execution {
			return executeVerb(ctx, e, v, forwarded{f, requestIn(f), scope})
		},
		add: func(sum, part *peerv1.ForwardResult) { v.add(v.partOf(sum), v.partOf(part)) },
	}
}

// forwarded is a verb's call at the hub that carries it out.
type forwarded struct {
	*peerv1.Forward
	request []byte // as the entry hub encoded it
	scope   mesh.Scope
}

// executeVerb does this hub's part of a verb.
func executeVerb[Q verbRequest, R proto.Message](
	ctx context.Context, e *executor, v *verb[Q, R], f forwarded,
) mesh.Execution {
	request := newMessage[Q]()
	if err := errors.Join(decodeForwarded(f.request, request), e.check(request)); err != nil {
		return finishedExecution(errorResult(err))
	}
	target := form.NewTarget(request.GetTarget())
	limitTarget(&target, f.scope)
	part, then, err := v.begin(ctx, e.hub, request, &target)
	if err != nil {
		return finishedExecution(errorResult(err))
	}
	result := v.result(part)
	if then == nil {
		return finishedExecution(result)
	}
	outcome := make(chan error, 1)
	return mesh.Execution{
		Until: acceptedAt(f.Forward).Add(verbTimeout), // the entry hub waits no longer
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
