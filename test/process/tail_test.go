package process

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
	"github.com/connhub/connhub/test/bed"
)

// tail is `connhub events tail` in a process of its own.
func tail(t *testing.T, args ...string) *bed.Process {
	t.Helper()
	p := bed.Start(t, append([]string{"events", "tail"}, args...)...)
	waitForText(t, p.Log, "watching hub")
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
	waitForText(t, all.Output, "hello")
	if err := ann.Close(4001, "bye"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*bed.Process{all, kinds} {
		waitForText(t, p.Output, `client 4001 "bye"`)
	}
	waitForText(t, named.Output, "hello")
	for name, p := range map[*bed.Process]int{all: 3, named: 1, kinds: 2, none: 0} {
		name.Signal(t, syscall.SIGINT)
		if code := name.ExitCode(t, 5*time.Second); code != terminal.ExitOK {
			t.Errorf("exit %d: %s", code, name.Log)
		}
		if got := strings.Count(name.Output.String(), "\n"); got != p {
			t.Errorf("%d lines, want %d:\n%s", got, p, name.Output)
		}
	}
	var e struct {
		User    string
		Message struct{ Name, Text string }
	}
	if err := json.Unmarshal([]byte(named.Output.String()), &e); err != nil ||
		e.User != "ann" || e.Message.Text != "hello" || e.Message.Name != "message" {
		t.Errorf("%s (%v)", named.Output, err)
	}
}

func TestTailSaysThatItsHubGoesAwayAndShowsWhatThatEnds(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.DevArgs(t)...)
	watching := tail(t, "--addr="+p.Control, "--all-hubs")
	testkit.DialClient(t, p.Clients, "user=ann")
	waitForText(t, watching.Output, "connected")
	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("the hub exits %d:\n%s", code, p.Log)
	}
	if code := watching.ExitCode(t, 5*time.Second); code != terminal.ExitError {
		t.Errorf("exit %d", code)
	}
	for text, in := range map[string]*testkit.LockedBuffer{
		"the hub at " + p.Control + " is going away": watching.Log,
		"SHUTTING_DOWN": watching.Log,
		"shutdown 1001": watching.Output,
	} {
		if !strings.Contains(in.String(), text) {
			t.Errorf("no %q in:\n%s", text, in)
		}
	}
}
