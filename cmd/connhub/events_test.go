package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

// everyEvent has each kind of event, some with what a terminal must not get.
func everyEvent() *eventsv1.SubscribeResponse {
	r := &eventsv1.SubscribeResponse{
		Subscribed: &eventsv1.Subscribed{Hub: "aaaaaaaa"}, GoingAway: &eventsv1.GoingAway{},
	}
	for i, e := range []*eventsv1.Event{
		{Kind: &eventsv1.Event_Connected{
			Connected: &eventsv1.Connected{RemoteAddress: "10.0.0.1:5"},
		}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "say", Payload: &eventsv1.Message_Text{Text: "Grüße 🍜\n\x1b[2J"},
		}}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "cl\u202eick", Payload: &eventsv1.Message_Json{Json: `{"a": 1}`},
		}}},
		{User: "boris", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "raw", Payload: &eventsv1.Message_Binary{Binary: []byte{0, 1}},
		}}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "long", Payload: &eventsv1.Message_Text{Text: strings.Repeat("x", 1000)},
		}}},
		{User: strings.Repeat("n", 40), Kind: &eventsv1.Event_Gap{
			Gap: &eventsv1.Gap{Count: 3, Reason: eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW},
		}},
		{User: "ann", Kind: &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: eventsv1.DisconnectCause_DISCONNECT_CAUSE_LOST,
		}}},
		{User: "ann", Kind: &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: eventsv1.DisconnectCause_DISCONNECT_CAUSE_BACKEND, Code: 4000,
			Reason: "en\"ough",
		}}},
		{},
	} {
		e.Ordinal, e.Connection, e.Protocol = int64(i+1),
			"aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbb", "plain"
		if i < 8 { // a hub of an older version does not say which it is
			e.Hub = "aaaaaaaa"
		}
		e.Id = e.GetConnection() + "/1"
		e.Time = timestamppb.New(terminaltest.Noon.Add(time.Duration(i) * 1234 * time.Millisecond))
		r.Events = append(r.Events, e)
	}
	return r
}

func TestEventsAreALineEach(t *testing.T) {
	for name, colour := range map[string]bool{"events.txt": false, "events_colour.txt": true} {
		testkit.CompareGolden(t, name, terminaltest.Render(colour, func(term *terminal.Terminal) {
			p := &eventPrinter{t: term}
			if err := p.printResponse("127.0.0.1:9090", everyEvent()); err != nil {
				t.Error(err)
			}
		}))
	}
	var out bytes.Buffer
	term := terminal.New(nil, &out, &bytes.Buffer{})
	if err := (&eventPrinter{t: term, json: true}).printResponse("", everyEvent()); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != len(everyEvent().GetEvents()) {
		t.Errorf("%d lines: %s", len(lines), out.String())
	}
	for _, line := range lines {
		if err := protojson.Unmarshal(line, &eventsv1.Event{}); err != nil ||
			bytes.Contains(line, []byte(": ")) && !bytes.Contains(line, []byte(`\": `)) {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// tail is `connhub events tail` in a process of its own.
func tail(t *testing.T, args ...string) *process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		log: &testkit.LockedBuffer{}, stdout: &testkit.LockedBuffer{},
		ended: make(chan struct{}),
	}
	p.cmd = exec.CommandContext(t.Context(), path, append([]string{"events", "tail"}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
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
		r := connhub(t, "", append([]string{"events", "tail"}, tt.args...)...)
		if r.code != tt.code || !strings.Contains(r.stderr, tt.want) {
			t.Errorf("%q: exit %d, %q, want %d, %q", tt.args, r.code, r.stderr, tt.code, tt.want)
		}
	}
}
