package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

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
	l.gaps.UnreachableHubs = addHubs(l.gaps.GetUnreachableHubs(), receipt.GetUnreachableHubs())
	if stale := receipt.GetDiscoveryStaleFor(); stale.AsDuration() > l.gaps.GetDiscoveryStaleFor().AsDuration() {
		l.gaps.DiscoveryStaleFor = stale
	}
}

// failureWords words the failure of a line. A failure that this side found has no details.
func failureWords(s *spb.Status) string {
	if len(s.GetDetails()) == 0 {
		return makePrintable(s.GetMessage())
	}
	return (&callError{err: status.ErrorProto(s)}).Error()
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
func (l *lineTally) printTotals(t *terminal) {
	var b strings.Builder
	switch {
	case l.sent+l.failed+l.unanswered == 0:
		b.WriteString(t.out.yellowText("○") + " no lines to send\n")
	case l.sent > 0 && l.states.matched == 0:
		fmt.Fprintf(&b, "%s %s sent: no connection matched\n",
			t.outcomeMark(&l.states), countNoun(l.sent, "line"))
	case l.sent > 0:
		fmt.Fprintf(&b, "%s %s sent as %s: %s\n", t.outcomeMark(&l.states),
			countNoun(l.sent, "line"), countNoun(l.states.matched, "message"),
			l.states.describeStates())
	}
	b.WriteString(t.stateNotes(&l.states, l.wait))
	if l.nobody > 0 && l.states.matched > 0 {
		fmt.Fprintf(&b, "  %s without a match\n", countNoun(l.nobody, "line"))
	}
	if l.duplicate > 0 {
		fmt.Fprintf(&b, "  %s %s had been sent before (known request id)\n",
			t.out.yellowText("↺"), countNoun(l.duplicate, "line"))
	}
	u := l.last.GetUnmatched()
	b.WriteString(t.unmatchedLine("connection", u.GetConnections()))
	b.WriteString(t.unmatchedLine("user", u.GetUsers()))
	b.WriteString(t.unmatchedLine("group", u.GetGroups()))
	if l.failed > 0 {
		fmt.Fprintf(&b, "%s %s failed\n", t.out.redText("✗"), countNoun(l.failed, "line"))
	}
	if l.unanswered > 0 {
		fmt.Fprintf(&b, "%s %s without an answer\n",
			t.out.yellowText("!"), countNoun(l.unanswered, "line"))
	}
	_, _ = t.stdout.Write([]byte(b.String()))
	t.printGaps(&l.gaps)
}

// failureError returns the error of the run. cause is the reason why lines are left.
func (l *lineTally) failureError(cause error) error {
	switch {
	case cause != nil && l.sent+l.failed == 0:
		return cause
	case cause != nil:
		return fmt.Errorf("%s without an answer: %w", countNoun(l.unanswered, "line"), cause)
	case l.failed > 0:
		return fmt.Errorf("%d of %s failed", l.failed, countNoun(l.sent+l.failed, "line"))
	}
	return nil
}
