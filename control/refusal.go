package control

import (
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// refusalReasons are the API's reasons why the hub does not change a connection.
var refusalReasons = map[error]controlv1.RefusalReason{
	hub.ErrGroupLimit: controlv1.RefusalReason_REFUSAL_REASON_GROUP_LIMIT,
	hub.ErrGrantLimit: controlv1.RefusalReason_REFUSAL_REASON_GRANT_LIMIT,
	hub.ErrClosed:     controlv1.RefusalReason_REFUSAL_REASON_CLOSED,
}

func newRefusals(all []hub.Refusal) []*controlv1.Refusal {
	var list []*controlv1.Refusal
	for _, one := range all {
		list = append(list, &controlv1.Refusal{
			Connection: string(one.Connection), Group: one.Group,
			Reason: refusalReasons[one.Reason],
		})
	}
	return list
}

// addRefusals adds the refusals of a peer, up to hub.MaxRefusals in all.
func addRefusals(all, more []*controlv1.Refusal) []*controlv1.Refusal {
	return append(all, more[:min(len(more), max(0, hub.MaxRefusals-len(all)))]...)
}
