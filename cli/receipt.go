package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// dropWords words the reasons of drops.
var dropWords = map[controlv1.DropReason]string{
	controlv1.DropReason_DROP_REASON_CLOSED:          "closed before it was written",
	controlv1.DropReason_DROP_REASON_OVERFLOW_NEWEST: "outbox full: this message was dropped",
	controlv1.DropReason_DROP_REASON_OVERFLOW_OLDEST: "outbox full: dropped for a newer message",
	controlv1.DropReason_DROP_REASON_OVERFLOW_CLOSE:  "outbox full: connection closed",
	controlv1.DropReason_DROP_REASON_CONFLATED:       "replaced by a newer message with its key",
	controlv1.DropReason_DROP_REASON_EXPIRED:         "ttl ran out",
}

// states are the counts of a receipt, or of many.
type states struct {
	matched, pending, queued, queuedDetached, written, acked int64
	notAckable, inTransfer, dropped                          int64
	reasons                                                  map[controlv1.DropReason]int64
}

func (s *states) addReceipt(r *controlv1.Receipt) {
	s.matched += int64(r.GetMatched())
	s.pending += int64(r.GetPending())
	s.queued += int64(r.GetQueued())
	s.queuedDetached += int64(r.GetQueuedDetached())
	s.written += int64(r.GetWritten())
	s.acked += int64(r.GetAcked())
	s.notAckable += int64(r.GetNotAckable())
	s.inTransfer += int64(r.GetInTransfer())
	for _, d := range r.GetDropped() {
		if s.reasons == nil {
			s.reasons = map[controlv1.DropReason]int64{}
		}
		s.reasons[d.GetReason()] += int64(d.GetCount())
		s.dropped += int64(d.GetCount())
	}
}

// printReceipt prints the result of a send that waited for a state.
func printReceipt(t *terminal.Terminal, r *controlv1.Receipt, wait controlv1.Wait) {
	var b strings.Builder
	if r.GetDuplicate() {
		b.WriteString(t.Out.YellowText("↺") +
			" known request id: nothing was sent. The first send now stands at:\n")
	}
	var s states
	s.addReceipt(r)
	if s.matched == 0 {
		b.WriteString(outcomeMark(t, &s) + " no connection matched\n")
	} else {
		fmt.Fprintf(&b, "%s %s matched: %s\n", outcomeMark(t, &s),
			terminal.CountNoun(s.matched, "connection"), s.describeStates())
	}
	b.WriteString(stateNotes(t, &s, wait))
	u := r.GetUnmatched()
	b.WriteString(unmatchedLine(t, "connection", u.GetConnections()))
	b.WriteString(unmatchedLine(t, "user", u.GetUsers()))
	b.WriteString(unmatchedLine(t, "group", u.GetGroups()))
	b.WriteString("  " + t.Out.DimText("message "+terminal.MakePrintable(r.GetMessageId())) + "\n")
	_, _ = t.Stdout.Write([]byte(b.String()))
}

// outcomeMark returns the first character of the first line.
func outcomeMark(t *terminal.Terminal, s *states) string {
	switch {
	case s.matched == 0:
		return t.Out.YellowText("○")
	case s.dropped == s.matched:
		return t.Out.RedText("✗")
	case s.dropped > 0:
		return t.Out.YellowText("!")
	default:
		return t.Out.GreenText("✓")
	}
}

// describeStates words the counts.
func (s *states) describeStates() string {
	var parts []string
	add := func(n int64, state string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	add(s.acked, "acked")
	add(s.written, "written")
	add(s.queued, "queued")
	add(s.queuedDetached, "queued for clients that are away")
	add(s.inTransfer, "moving to another hub")
	add(s.pending, "pending")
	add(s.dropped, "dropped")
	return strings.Join(parts, ", ")
}

// stateNotes returns further lines about the states.
func stateNotes(t *terminal.Terminal, s *states, wait controlv1.Wait) string {
	var b strings.Builder
	if s.notAckable > 0 && wait == controlv1.Wait_WAIT_ACKED {
		fmt.Fprintf(&b, "  %d of the written will not be acked: their protocol has no acks\n",
			s.notAckable)
	}
	for _, reason := range slices.Sorted(maps.Keys(s.reasons)) {
		words, ok := dropWords[reason]
		if !ok {
			words = "for a reason that this version does not know"
		}
		name := strings.ToLower(strings.TrimPrefix(reason.String(), "DROP_REASON_"))
		fmt.Fprintf(&b, "  %s %s (%s)\n",
			t.Out.YellowText(fmt.Sprintf("%d dropped:", s.reasons[reason])), words, name)
	}
	return b.String()
}

func unmatchedLine(t *terminal.Terminal, noun string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = terminal.MakePrintable(name)
	}
	return fmt.Sprintf("  %s %s\n", t.Out.YellowText("no such "+noun+":"),
		strings.Join(quoted, ", "))
}
