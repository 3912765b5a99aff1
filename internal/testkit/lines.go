package testkit

import (
	"encoding/json"
	"strings"
	"testing"
)

// WaitForLog returns the first log line with a message.
func WaitForLog(t *testing.T, log *LockedBuffer, message string) map[string]any {
	t.Helper()
	var attrs map[string]any
	came := Holds(t, func() bool {
		for line := range strings.Lines(log.String()) {
			attrs = nil
			if json.Unmarshal([]byte(line), &attrs) == nil && attrs["msg"] == message {
				return true
			}
		}
		return false
	})
	if !came {
		t.Fatalf("no line %q in the log:\n%s", message, log.String())
	}
	return attrs
}
