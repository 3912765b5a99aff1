package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// lineTally adds up the results of lines.
type lineTally struct {
	// Static.
	json bool
	wait controlv1.Wait

	sent, failed, unanswered int64 // lines
	nobody, duplicate        int64 // of sent
	states                   states
	last                     *controlv1.Receipt // names targets without a match
	gaps                     controlv1.Receipt  // the gaps of all receipts
}

// lineOutput is the output for results.
type lineOutput struct {
	stdout []byte
	stderr []string // lines
}

// addResult counts the result of a line.
func (l *lineTally) addResult(r *controlv1.StreamedResult, out *lineOutput) {
	if l.json {
		out.stdout = appendResult(out.stdout, r)
	}
	if failed := r.GetError(); failed != nil {
		l.failed++
		if !l.json {
			out.stderr = append(
				out.stderr, fmt.Sprintf("line %d: %s", r.GetSequence(), failureWords(failed)),
			)
		}
		return
	}
	receipt := r.GetReceipt()
	l.sent++
	l.states.addReceipt(receipt)
	l.last = receipt
	if receipt.GetMatched() == 0 {
		l.nobody++
	}
	if receipt.GetDuplicate() {
		l.duplicate++
	}
	l.gaps.UnreachableHubs = dial.AddHubs(l.gaps.GetUnreachableHubs(), receipt.GetUnreachableHubs())
	stale := receipt.GetDiscoveryStaleFor()
	if stale.AsDuration() > l.gaps.GetDiscoveryStaleFor().AsDuration() {
		l.gaps.DiscoveryStaleFor = stale
	}
}

// failureWords words the failure of a line. A failure that this side found has no details.
func failureWords(s *spb.Status) string {
	if len(s.GetDetails()) == 0 {
		return terminal.MakePrintable(s.GetMessage())
	}
	return dial.DescribeStatus(s)
}

// appendResult appends a result as a line of JSON: {"line":7,"receipt":{…}} or
// {"line":7,"error":{…}}.
func appendResult(dst []byte, r *controlv1.StreamedResult) []byte {
	var what proto.Message = r.GetReceipt()
	name := "receipt"
	if r.GetError() != nil {
		what, name = r.GetError(), "error"
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(what)
	var compact bytes.Buffer
	if err != nil || json.Compact(&compact, text) != nil { // protojson varies its blanks on purpose
		compact.Reset()
		compact.WriteString("null") // a detail of a type that this version does not know
	}
	return fmt.Appendf(dst, "{\"line\":%d,%q:%s}\n", r.GetSequence(), name, compact.Bytes())
}

// printTotals prints the results of all lines.
func (l *lineTally) printTotals(t *terminal.Terminal) {
	var b strings.Builder
	switch {
	case l.sent+l.failed+l.unanswered == 0:
		b.WriteString(t.Out.YellowText("○") + " no lines to send\n")
	case l.sent > 0 && l.states.matched == 0:
		fmt.Fprintf(&b, "%s %s sent: no connection matched\n",
			outcomeMark(t, &l.states), terminal.CountNoun(l.sent, "line"))
	case l.sent > 0:
		fmt.Fprintf(&b, "%s %s sent as %s: %s\n", outcomeMark(t, &l.states),
			terminal.CountNoun(l.sent, "line"), terminal.CountNoun(l.states.matched, "message"),
			l.states.describeStates())
	}
	b.WriteString(stateNotes(t, &l.states, l.wait))
	if l.nobody > 0 && l.states.matched > 0 {
		fmt.Fprintf(&b, "  %s without a match\n", terminal.CountNoun(l.nobody, "line"))
	}
	if l.duplicate > 0 {
		fmt.Fprintf(&b, "  %s %s had been sent before (known request id)\n",
			t.Out.YellowText("↺"), terminal.CountNoun(l.duplicate, "line"))
	}
	u := l.last.GetUnmatched()
	b.WriteString(unmatchedLine(t, "connection", u.GetConnections()))
	b.WriteString(unmatchedLine(t, "user", u.GetUsers()))
	b.WriteString(unmatchedLine(t, "group", u.GetGroups()))
	if l.failed > 0 {
		fmt.Fprintf(&b, "%s %s failed\n", t.Out.RedText("✗"), terminal.CountNoun(l.failed, "line"))
	}
	if l.unanswered > 0 {
		fmt.Fprintf(&b, "%s %s without an answer\n",
			t.Out.YellowText("!"), terminal.CountNoun(l.unanswered, "line"))
	}
	_, _ = t.Stdout.Write([]byte(b.String()))
	dial.PrintGaps(t, &l.gaps)
}

// failureError returns the error of the run. cause is the reason why lines are left.
func (l *lineTally) failureError(cause error) error {
	switch {
	case cause != nil && l.sent+l.failed == 0:
		return cause
	case cause != nil:
		return fmt.Errorf("%s without an answer: %w", terminal.CountNoun(l.unanswered, "line"),
			cause)
	case l.failed > 0:
		return fmt.Errorf("%d of %s failed", l.failed, terminal.CountNoun(l.sent+l.failed, "line"))
	}
	return nil
}
