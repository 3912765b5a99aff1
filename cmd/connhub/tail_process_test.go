package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

// tail is `connhub events tail` in a process of its own.
func tail(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := runProcess(t, exec.CommandContext(
		t.Context(), path, append([]string{"events", "tail"}, args...)...,
	))
	waitForText(t, p.log, "watching hub")
	return p
}

// waitForText waits until something was written.
func waitForText(t *testing.T, b *testkit.LockedBuffer, text string) {
	t.Helper()
	if !testkit.Holds(t, func() bool { return strings.Contains(b.String(), text) }) {
		t.Fatalf("no %q in:\n%s", text, b)
	}
}

func TestTailShowsWhatClientsDoUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	all := tail(t, "--addr="+hub.Control)
	named := tail(t, "--addr="+hub.Control, "--event=message", "--json")
	kinds := tail(
		t, "--addr="+hub.Control, "--kind=connected", "--kind=disconnected", "--namespace=default",
	)
	none := tail(t, "--addr="+hub.Control, "--namespace=other")

	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	if err := ann.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	waitForText(t, all.stdout, "hello")
	if err := ann.Close(4001, "bye"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{all, kinds} {
		waitForText(t, p.stdout, `client 4001 "bye"`)
	}
	waitForText(t, named.stdout, "hello")
	for name, p := range map[*process]int{all: 3, named: 1, kinds: 2, none: 0} {
		name.signal(t, syscall.SIGINT)
		if code := name.exitCode(t, 5*time.Second); code != terminal.ExitOK {
			t.Errorf("exit %d: %s", code, name.log)
		}
		if got := strings.Count(name.stdout.String(), "\n"); got != p {
			t.Errorf("%d lines, want %d:\n%s", got, p, name.stdout)
		}
	}
	var e struct {
		User    string
		Message struct{ Name, Text string }
	}
	if err := json.Unmarshal([]byte(named.stdout.String()), &e); err != nil ||
		e.User != "ann" || e.Message.Text != "hello" || e.Message.Name != "message" {
		t.Errorf("%s (%v)", named.stdout, err)
	}
}

func TestTailSaysThatItsHubGoesAwayAndShowsWhatThatEnds(t *testing.T) {
	t.Parallel()
	p := startProcess(t, devArgs(t)...)
	watching := tail(t, "--addr="+p.Control, "--all-hubs")
	testkit.DialClient(t, p.Clients, "user=ann")
	waitForText(t, watching.stdout, "connected")
	p.signal(t, syscall.SIGTERM)
	if code := p.exitCode(t, 10*time.Second); code != 0 {
		t.Errorf("the hub exits %d:\n%s", code, p.log)
	}
	if code := watching.exitCode(t, 5*time.Second); code != terminal.ExitError {
		t.Errorf("exit %d", code)
	}
	for text, in := range map[string]*testkit.LockedBuffer{
		"the hub at " + p.Control + " is going away": watching.log,
		"SHUTTING_DOWN": watching.log,
		"shutdown 1001": watching.stdout,
	} {
		if !strings.Contains(in.String(), text) {
			t.Errorf("no %q in:\n%s", text, in)
		}
	}
}

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
