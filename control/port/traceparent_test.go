package port

import (
	"strings"
	"testing"
)

func TestTraceParentIsTakenOnlyWhenItIsOne(t *testing.T) {
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, c := range []struct {
		value string
		want  bool
	}{
		{good, true},
		{"", false},
		{good + "0", false},
		{strings.ToUpper(good), false},
		{"01" + good[2:], false},
		{strings.Replace(good, "-", "0", 2), false},
		{"00-00000000000000000000000000000000-00f067aa0ba902b7-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false},
		{"00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01", false},
	} {
		if have := parseTraceParent([]string{c.value}); (have == c.value && have != "") != c.want {
			t.Errorf("%q: have %q", c.value, have)
		}
	}
	if have := parseTraceParent([]string{good, good}); have != "" {
		t.Errorf("two of them: %q", have)
	}
}
