package edge

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Rejection is the error of Protocol.Receive for a command that the protocol can parse and the hub
// does not carry out. The protocol has told the client already, if the command can be answered. The
// edge counts the rejection, and the link goes on.
type Rejection struct {
	// Reason is why the command was not carried out.
	Reason RejectReason
}

// Error names the reason.
func (r *Rejection) Error() string { return fmt.Sprintf("command rejected: %v", r.Reason) }

// RejectReason is why a client's command is not carried out. Its String is the label of a metric.
type RejectReason uint8

// The reasons.
const (
	// RejectUnsupported: the hub does not know the command, or does not offer it.
	RejectUnsupported RejectReason = iota + 1
	// RejectInvalid: a member of the command is missing, of the wrong type or beyond a limit.
	RejectInvalid
	// RejectForbidden: the client lacks the permission, or a limit of the connection is reached.
	RejectForbidden
	// RejectShuttingDown: the hub is shutting down.
	RejectShuttingDown
	// RejectNoSubscriber: no backend has the event queued.
	RejectNoSubscriber

	rejectEnd
)

var rejectLabels = [rejectEnd]string{
	RejectUnsupported: "unsupported", RejectInvalid: "invalid", RejectForbidden: "forbidden",
	RejectShuttingDown: "shutting_down",
	RejectNoSubscriber: "no_subscriber",
}

// String returns the label of the reason in metrics.
func (r RejectReason) String() string {
	if r == 0 || r >= rejectEnd {
		return fmt.Sprintf("reason_%d", uint8(r))
	}
	return rejectLabels[r]
}

// rejectCounters has the counter of each reason, for a protocol.
type rejectCounters [rejectEnd]prometheus.Counter

func newRejectCounters(v *prometheus.CounterVec, protocol string) (c rejectCounters) {
	for r := RejectUnsupported; r < rejectEnd; r++ {
		c[r] = v.WithLabelValues(protocol, r.String())
	}
	return c
}

// countRejection counts a rejection.
func (c *rejectCounters) countRejection(r *Rejection) {
	if r.Reason > 0 && r.Reason < rejectEnd {
		c[r.Reason].Inc()
	}
}
