package port

import (
	"strings"
)

// traceParentBytes is the length of a traceparent of version 00.
const traceParentBytes = len("00-00000000000000000000000000000000-0000000000000000-00")

// parseTraceParent returns the trace context of a call from the values of its header. As W3C Trace
// Context §4.3 asks, a value that can't be parsed counts as none.
func parseTraceParent(values []string) string {
	if len(values) != 1 || !validTraceParent(values[0]) {
		return ""
	}
	return values[0]
}

// validTraceParent knows version 00 (§3.2): four groups of lower-case hex digits, neither id all
// zero.
func validTraceParent(s string) bool {
	if len(s) != traceParentBytes || !strings.HasPrefix(s, "00-") || s[35] != '-' || s[52] != '-' {
		return false
	}
	trace, parent, flags := s[3:35], s[36:52], s[53:]
	for _, part := range []string{trace, parent, flags} {
		if strings.Trim(part, "0123456789abcdef") != "" {
			return false
		}
	}
	return strings.Trim(trace, "0") != "" && strings.Trim(parent, "0") != ""
}
