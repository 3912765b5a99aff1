package control

import (
	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// This file adds up the parts in which the mesh carries out a call while connections move.

// Merge implements mesh.Executor. The first error wins: a call that failed in part has failed.
func (e *executor) Merge(sum, part *peerv1.ForwardResult) *peerv1.ForwardResult {
	switch {
	case sum == nil:
		return part
	case part == nil, isFailed(sum):
		return sum
	case isFailed(part):
		return part
	case sum.GetSend() != nil:
		form.AddSend(sum.GetSend(), part.GetSend())
	default:
		if add := e.verbs[resultKind(sum)].add; add != nil {
			add(sum, part)
		}
	}
	return sum
}

func isFailed(r *peerv1.ForwardResult) bool {
	_, failed := r.GetResult().(*peerv1.ForwardResult_Status)
	return failed
}

// resultKind returns the verb that a result is of: mesh.KindOf for results.
func resultKind(r *peerv1.ForwardResult) string {
	m := r.ProtoReflect()
	if field := m.WhichOneof(m.Descriptor().Oneofs().ByName("result")); field != nil {
		return string(field.Name())
	}
	return ""
}

// InTransfer implements mesh.Executor. Only a receipt counts connections that move. A verb tells
// of the connections that it has changed.
func (e *executor) InTransfer(
	f *peerv1.Forward, r *peerv1.ForwardResult, moving []hub.ConnectionID,
) *peerv1.ForwardResult {
	if f.GetSend() == nil || isFailed(r) {
		return r
	}
	req := &controlv1.SendRequest{}
	if err := decodeForwarded(f.GetSend().GetRequest(), req); err != nil {
		return errorResult(err)
	}
	if r == nil {
		r = &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}}}
	}
	namespace, target := form.NamespaceOf(req), form.NewTarget(req.GetTarget())
	matched := 0
	for _, id := range moving {
		matches := func(t *hub.Target) bool { return e.hub.Moves().Matches(namespace, t, id) }
		if matches(&target) {
			matched++
		}
		if req.GetDetail() == controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS {
			form.AddMatchedNames(r.GetSend(), &target, matches)
		}
	}
	form.AddInTransfer(r.GetSend(), matched)
	return r
}
