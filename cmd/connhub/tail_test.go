package main

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/node/nodetest"
)

func TestTailSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	for _, tt := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{
			"--addr=" + hub.Control, "--event=a\x00",
		}, "connhub: invalid argument: subscription.message_names[0]: must not have control " +
			"characters (INVALID_FIELD)\n", terminal.ExitError},
		{[]string{"--addr=" + hub.Control, "--kind=nope"}, "--kind", terminal.ExitUsage},
		{[]string{"--addr=127.0.0.1:1"}, "connhub: can't reach 127.0.0.1:1: connection refused. " +
			"Is a hub running? Try: connhub dev\n", terminal.ExitError},
		{[]string{"--addr=127.0.0.1:1", "--all-hubs"}, "connhub: can't reach 127.0.0.1:1: " +
			"connection refused. Is a hub running? Try: connhub dev\n", terminal.ExitError},
	} {
		r := program.Run(t, "", append([]string{"events", "tail"}, tt.args...)...)
		if r.Code != tt.code || !strings.Contains(r.Stderr, tt.want) {
			t.Errorf("%q: exit %d, %q, want %d, %q", tt.args, r.Code, r.Stderr, tt.code, tt.want)
		}
	}
}
