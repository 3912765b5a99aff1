package main

import (
	"fmt"
	"strings"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// dropWords says a drop reason to a person.
var dropWords = map[controlv1.DropReason]string{
	controlv1.DropReason_DROP_REASON_CLOSED:          "closed before it was written",
	controlv1.DropReason_DROP_REASON_OVERFLOW_NEWEST: "outbox full: this message was dropped",
	controlv1.DropReason_DROP_REASON_OVERFLOW_OLDEST: "outbox full: dropped for a newer message",
	controlv1.DropReason_DROP_REASON_OVERFLOW_CLOSE:  "outbox full: connection closed",
	controlv1.DropReason_DROP_REASON_CONFLATED:       "replaced by a newer message with its key",
	controlv1.DropReason_DROP_REASON_EXPIRED:         "ttl ran out",
}

// printReceipt says in words and numbers what became of a send that waited for a state.
func (t *terminal) printReceipt(r *controlv1.Receipt, wait controlv1.Wait) {
	var b strings.Builder
	if r.GetDuplicate() {
		b.WriteString(t.out.yellow("↺") + " known request id: nothing was sent. The first send now stands at:\n")
	}
	b.WriteString(t.receiptLine(r) + "\n")
	if n := r.GetNotAckable(); n > 0 && wait == controlv1.Wait_WAIT_ACKED {
		fmt.Fprintf(&b, "  %d of the written will not be acked: their protocol has no acks\n", n)
	}
	for _, d := range r.GetDropped() {
		reason := strings.ToLower(strings.TrimPrefix(d.GetReason().String(), "DROP_REASON_"))
		words, ok := dropWords[d.GetReason()]
		if !ok {
			words = "for a reason that this version does not know"
		}
		fmt.Fprintf(&b, "  %s %s (%s)\n", t.out.yellow(fmt.Sprintf("%d dropped:", d.GetCount())), words, reason)
	}
	u := r.GetUnmatched()
	b.WriteString(t.unmatched("connection", u.GetConnections()))
	b.WriteString(t.unmatched("user", u.GetUsers()))
	b.WriteString(t.unmatched("group", u.GetGroups()))
	b.WriteString("  " + t.out.dim("message "+printable(r.GetMessageId())) + "\n")
	_, _ = t.stdout.Write([]byte(b.String()))
}

// receiptLine is the first line: how many matched, and where the message is now.
func (t *terminal) receiptLine(r *controlv1.Receipt) string {
	if r.GetMatched() == 0 {
		return t.out.yellow("○") + " nobody matched"
	}
	dropped := int32(0)
	for _, d := range r.GetDropped() {
		dropped += d.GetCount()
	}
	var states []string
	add := func(n int32, state string) {
		if n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, state))
		}
	}
	add(r.GetAcked(), "acked")
	add(r.GetWritten(), "written")
	add(r.GetQueued(), "queued")
	add(r.GetQueuedDetached(), "queued for clients that are away")
	add(r.GetPending(), "pending")
	add(dropped, "dropped")
	mark := t.out.green("✓")
	switch {
	case dropped == r.GetMatched():
		mark = t.out.red("✗")
	case dropped > 0:
		mark = t.out.yellow("!")
	}
	return fmt.Sprintf("%s %s matched: %s", mark, count(r.GetMatched(), "connection"), strings.Join(states, ", "))
}

func (t *terminal) unmatched(noun string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = printable(name)
	}
	return fmt.Sprintf("  %s %s\n", t.out.yellow("no such "+noun+":"), strings.Join(quoted, ", "))
}
