package cli

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
)

// connectionID returns the id of the only connection of a user.
func connectionID(t *testing.T, hub *nodetest.Hub, user string) string {
	t.Helper()
	var list controlv1.ListConnectionsResponse
	out := program.MustRun(t, "connections", "--json", "--addr="+hub.Control, "--user="+user)
	if err := protojson.Unmarshal([]byte(out), &list); err != nil ||
		len(list.GetConnections()) != 1 {
		t.Fatalf("connections of %s: %s (%v)", user, out, err)
	}
	return list.GetConnections()[0].GetId()
}

func TestSendReachesConnectionsUsersGroupsAndEveryone(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann&group=blue")
	bob := testkit.DialClient(t, hub.Clients, "user=bob&group=blue&group=red")
	id := connectionID(t, hub, "ann")

	send := func(args ...string) string {
		t.Helper()
		out := program.MustRun(t, append([]string{"send", "--addr=" + hub.Control}, args...)...)
		first, _, _ := strings.Cut(out, "\n")
		return first
	}
	for _, tt := range []struct {
		args []string
		text string
		to   []*websocket.Conn
	}{
		{[]string{"-c", id, "one"}, "one", []*websocket.Conn{ann}},
		{[]string{"--user=bob", "two"}, "two", []*websocket.Conn{bob}},
		{[]string{"--group=blue", "three"}, "three", []*websocket.Conn{ann, bob}},
		{[]string{"--everyone", "Grüße 🍜"}, "Grüße 🍜", []*websocket.Conn{ann, bob}},
		{[]string{"--everyone", "--except-user=ann", "five"}, "five", []*websocket.Conn{bob}},
		{[]string{"--group=blue", "--except-group=red", "six"}, "six", []*websocket.Conn{ann}},
		{[]string{
			"-u", "ann", "-g", "red", "--except-connection", id, "seven",
		}, "seven", []*websocket.Conn{bob}},
		{[]string{
			"-u", "ann", "--json-payload", ` {"big": 9007199254740993} `,
		}, `{"big": 9007199254740993}`, []*websocket.Conn{ann}},
		{[]string{"-u", "ann", "--", "--not-a-flag"}, "--not-a-flag", []*websocket.Conn{ann}},
		{[]string{"-u", "ann", "@not-a-file"}, "@not-a-file", []*websocket.Conn{ann}},
	} {
		want := fmt.Sprintf(
			"✓ %s matched: %d written", terminal.CountNoun(len(tt.to), "connection"), len(tt.to),
		)
		if got := send(tt.args...); got != want {
			t.Errorf("send %q: %q, want %q", tt.args, got, want)
		}
		for _, conn := range tt.to {
			if got := testkit.NextMessage(t, conn); got != tt.text {
				t.Errorf("send %q: a client got %q, want %q", tt.args, got, tt.text)
			}
		}
	}
	if got := send("--user=nobody", "x"); got != "○ no connection matched" {
		t.Errorf("send to nobody: %q", got)
	}
}

func TestSendReadsStandardInputAndFilesWhole(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann")
	to := func(args ...string) []string {
		return append([]string{"send", "--addr=" + hub.Control, "--user=ann"}, args...)
	}
	for _, tt := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"two\nlines\n", to("-", "--whole"), "two\nlines\n"},
		{"[1,\n2]\n", to("--json-payload", "--whole", "-"), "[1,\n2]"},
		{"\x00\xff", to("--binary", "-"), "\x00\xff"},
		{"", to("--json-payload", "@"+testkit.WriteFile(t, "a.json", "[1, 2]\n")), "[1, 2]"},
		{"", to("--binary", "@"+testkit.WriteFile(t, "a.bin", "\xfe\n")), "\xfe\n"},
		{strings.Repeat("x", 1<<20), to("--whole", "-"), strings.Repeat("x", 1<<20)},
	} {
		if r := program.Run(t, tt.stdin, tt.args...); r.Code != terminal.ExitOK {
			t.Errorf("%q: exit %d, %s", tt.args, r.Code, r.Stderr)
			continue
		}
		if got := testkit.NextMessage(t, ann); got != tt.want {
			t.Errorf("%q: got %.40q, want %.40q", tt.args, got, tt.want)
		}
	}
	if r := program.Run(t, "\xff", to("--whole", "-")...); r.Code != terminal.ExitUsage ||
		!strings.Contains(r.Stderr, "not UTF-8") {
		t.Errorf("bytes as text: exit %d, %s", r.Code, r.Stderr)
	}
	if r := program.Run(t, strings.Repeat("x", 1<<20+1),
		to("--whole", "-")...); r.Code != terminal.ExitUsage ||
		!strings.Contains(r.Stderr, "more than a message may") {
		t.Errorf("too much: exit %d, %s", r.Code, r.Stderr)
	}
}

func TestSendOptionsReachTheClient(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	conn, response, err := websocket.Dial(t.Context(),
		"ws://"+hub.Clients+"/client/hubs/chat?user=ann",
		&websocket.DialOptions{Subprotocols: []string{"json.connhub.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	defer func() { _ = conn.CloseNow() }()
	_ = testkit.NextMessage(t, conn) // greeting

	out := program.MustRun(t, "send", "--addr="+hub.Control,
		"-n", "chat", "--user=ann", "--user=bob", "--event=score", "-m", "a=1", "--metadata=b=x=y",
		"--message-id=m-1", "--ttl=1m", "--request-id=r-1", "--wait=acked", "--wait-timeout=2s",
		"--policy=conflate", "--key=k", "--detail", "hi")
	want := "✓ 1 connection matched: 1 written\n  1 of the written will not be acked: their " +
		"protocol has no acks\n" +
		"  no such user: bob\n  message m-1\n"
	if out != want {
		t.Errorf("receipt:\n%s\nwant:\n%s", out, want)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(testkit.NextMessage(t, conn)), &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf(
		"%v", []any{got["id"], got["event"], got["route"], got["data"], got["metadata"]},
	) != "[m-1 score user hi map[a:1 b:x=y]]" {
		t.Errorf("message: %v", got)
	}

	args := []string{
		"send", "--addr=" + hub.Control, "-n", "chat", "--user=ann", "--request-id=r-2", "again",
	}
	_ = program.MustRun(t, args...)
	if out := program.MustRun(t, args...); !strings.HasPrefix(
		out, "↺ known request id: nothing was sent.",
	) {
		t.Errorf("the second time: %s", out)
	}
	var sent controlv1.SendResponse
	if err := protojson.Unmarshal(
		[]byte(program.MustRun(t, append(args, "--json")...)), &sent,
	); err != nil || !sent.GetReceipt().GetDuplicate() {
		t.Errorf("--json: %v, %v", &sent, err)
	}
}

func TestConnectionsAreListedShownAndClosed(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	ann := testkit.DialClient(t, hub.Clients, "user=ann&group=blue")
	for range 4 {
		testkit.DialClient(t, hub.Clients, "user=bob")
	}
	addr := "--addr=" + hub.Control
	id := connectionID(t, hub, "ann")
	if got := strings.Count(program.MustRun(t, "connections", addr), "\n"); got != 6 {
		t.Errorf("connections: %d lines, want a header and 5", got)
	}
	if got := program.MustRun(t, "connections", "list", addr,
		"--group=blue"); !strings.Contains(got, id) ||
		strings.Contains(got, "bob") {
		t.Errorf("of a group:\n%s", got)
	}
	r := program.Run(t, "", "connections", "list", addr, "--limit=2")
	if strings.Count(r.Stdout, "\n") != 3 || r.Stderr != "the first 2; --limit 0 lists all\n" {
		t.Errorf("--limit=2: %q, %q", r.Stdout, r.Stderr)
	}
	if r := program.Run(
		t, "", "connections", "list", addr, "--limit=5",
	); strings.Count(r.Stdout, "\n") != 6 || r.Stderr != "" {
		t.Errorf("--limit=5: %q, %q", r.Stdout, r.Stderr)
	}
	if got := program.MustRun(
		t, "connections", "get", addr, id,
	); !regexp.MustCompile(`(?m)^user +ann$`).MatchString(got) {
		t.Errorf("get:\n%s", got)
	}
	if got := program.MustRun(t, "connections", "get", addr, "--json", id); !strings.Contains(
		got, `"queuedMessages": 0`,
	) {
		t.Errorf("get --json leaves zeros out:\n%s", got)
	}

	if got := program.MustRun(
		t, "connections", "close", addr, id, "--code=4001", "--reason=bye",
	); got != "✓ 1 connection matched: 1 closed\n" {
		t.Errorf("close: %q", got)
	}
	_, _, err := ann.Read(t.Context())
	if websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "bye") {
		t.Errorf("the client was told %v", err)
	}
	if got := program.MustRun(t, "connections", "close", addr,
		id); got != "○ no connection matched\n" {
		t.Errorf("close again: %q", got)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{
			"connections", "get", id,
		}, "connhub: not found: connection not found (CONNECTION_NOT_FOUND)\n"},
		{[]string{
			"connections", "close", "--everyone", "--max-matched=3",
		}, "(TOO_MANY_MATCHED). Nothing was done; raise --max-matched to close them\n"},
		{[]string{"connections", "close", "--user=bob", "--code=1002"}, "invalid argument: code: "},
		{[]string{"connections", "list", "-n", "Bad"}, "invalid argument: namespace: "},
	} {
		r := program.Run(t, "", append(tt.args, addr)...)
		if r.Code != terminal.ExitError ||
			!strings.Contains(r.Stderr, tt.want) || strings.Count(r.Stderr, "\n") != 1 {
			t.Errorf("%q: exit %d, %q, want %q", tt.args, r.Code, r.Stderr, tt.want)
		}
	}
	if got := program.MustRun(
		t, "connections", "close", addr, "--everyone", "--max-matched=4",
	); got != "✓ 4 connections matched: 4 closed\n" {
		t.Errorf("close everyone: %q", got)
	}
}

func TestGroupsAreChangedListedAndShown(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	testkit.DialClient(t, hub.Clients, "user=ann&group=blue")
	addr := "--addr=" + hub.Control
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{
			"groups", "add", "blue", "red", "a, b", "--user=ann",
		}, "✓ 1 connection matched: 2 added, 1 in it already\n"},
		{[]string{"groups", "get", "a, b"}, "GROUP   MEMBERS\na, b    1\n"},
		{[]string{"groups", "remove", "red", "--user=ann"}, "✓ 1 connection matched: 1 removed\n"},
		{[]string{"groups", "add", "x", "--user=bob"}, "○ no connection matched\n"},
		{[]string{
			"groups", "remove", "--all", "--group=blue",
		}, "✓ 1 connection matched: 2 removed\n"},
		{[]string{"groups"}, ""},
	} {
		if got := program.MustRun(t, append(tt.args, addr)...); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
	if r := program.Run(t, "", "groups", "get", "blue", addr); r.Code != terminal.ExitError ||
		r.Stderr != "connhub: not found: group not found (GROUP_NOT_FOUND)\n" {
		t.Errorf("a group without members: exit %d, %q", r.Code, r.Stderr)
	}
}

func TestListsPageThroughEverything(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	addr := "--addr=" + hub.Control
	const users, groupsEach = 20, 128 // more than two pages of groups
	for i := range users {
		var query strings.Builder
		for g := range groupsEach {
			fmt.Fprintf(&query, "&group=g%d.%d", i, g)
		}
		testkit.DialClient(t, hub.Clients, query.String()[1:])
	}
	var all controlv1.ListGroupsResponse
	if err := protojson.Unmarshal(
		[]byte(program.MustRun(t, "groups", "list", addr, "--limit=0", "--json")), &all,
	); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range all.GetGroups() {
		seen[g.GetName()] = true
	}
	if len(all.GetGroups()) != users*groupsEach ||
		len(seen) != users*groupsEach || all.GetNextPageToken() != "" {
		t.Errorf("%d groups, %d different, next page %q",
			len(all.GetGroups()), len(seen), all.GetNextPageToken())
	}
	if got := strings.Count(program.MustRun(t, "groups", "list", addr, "--limit=1500"),
		"\n"); got != 1501 {
		t.Errorf("--limit=1500: %d lines", got)
	}
	if got := strings.Count(program.MustRun(t, "groups", addr), "\n"); got != 101 {
		t.Errorf("by default: %d lines", got)
	}
}

func TestTokensAndHubs(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	addr := "--addr=" + hub.Control
	r := program.Run(t, "", "token", addr, "--user=ann", "--group=blue",
		"--group=red", "--ttl=2h", "--label=plan=free, for now;x=1", "--label=empty=")
	url := strings.TrimSpace(r.Stdout)
	if !strings.HasPrefix(url, "ws://"+hub.Clients+"/client/hubs/default?access_token=") ||
		!strings.Contains(r.Stderr, "lets in user ann in blue, red until ") {
		t.Fatalf("token: %q, %q", r.Stdout, r.Stderr)
	}
	conn, response, err := websocket.Dial(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	defer func() { _ = conn.CloseNow() }()
	if got := program.MustRun(
		t, "connections", "get", addr, connectionID(t, hub, "ann"),
	); !strings.Contains(got, "blue, red") {
		t.Errorf("the connection:\n%s", got)
	}
	var listed controlv1.ListConnectionsResponse
	if err := protojson.Unmarshal(
		[]byte(program.MustRun(t, "connections", addr, "--json")), &listed,
	); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{
		"plan": "free, for now;x=1", "empty": "",
	}, listed.GetConnections()[0].GetLabels()); diff != "" {
		t.Error(diff)
	}
	if got := program.MustRun(t, "token", addr, "--json"); !strings.Contains(got, `"expireTime"`) {
		t.Errorf("token --json: %s", got)
	}
	if r := program.Run(t, "", "token", addr, "--ttl=1000h"); r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "ttl: ") {
		t.Errorf("too long: exit %d, %s", r.Code, r.Stderr)
	}
	if got := program.MustRun(t, "hubs", addr); strings.Count(got, "\n") != 2 ||
		!strings.Contains(got, "this hub") {
		t.Errorf("hubs:\n%s", got)
	}
	var hubs controlv1.ListHubsResponse
	if err := protojson.Unmarshal([]byte(program.MustRun(t, "hubs", addr, "--json")),
		&hubs); err != nil ||
		!hubs.GetHubs()[0].GetSelf() {
		t.Errorf("hubs --json: %v, %v", &hubs, err)
	}
}

func TestUnreachableHubsAreSaidWithTheirAddress(t *testing.T) {
	t.Parallel()
	want := "connhub: can't reach 127.0.0.1:1: connection refused. Is a hub running? Try: " +
		"connhub dev\n"
	if r := program.Run(t, "", "hubs", "--addr=127.0.0.1:1"); r.Code != terminal.ExitError ||
		r.Stderr != want {
		t.Errorf("exit %d, %q, want %q", r.Code, r.Stderr, want)
	}
	// The port of clients does not speak gRPC.
	hub := nodetest.Start(t, nil)
	r := program.Run(t, "", "hubs", "--addr="+hub.Clients)
	if r.Code != terminal.ExitError || !strings.Contains(
		r.Stderr, "no hub at the other end of "+hub.Clients,
	) ||
		strings.Contains(r.Stderr, "--tls") {
		t.Errorf("the wrong port: exit %d, %q", r.Code, r.Stderr)
	}
	if r := program.Run(
		t, "", "hubs", "--addr="+testkit.TakePort(t), "--timeout=200ms",
	); r.Code != terminal.ExitError || strings.Count(r.Stderr, "\n") != 1 {
		t.Errorf("a silent port: exit %d, %q", r.Code, r.Stderr)
	}
}

func TestClosedConnectionsAreLoggedOnce(t *testing.T) {
	t.Parallel()
	hub := nodetest.Start(t, nil)
	testkit.DialClient(t, hub.Clients, "user=ann&access=secret")
	id := connectionID(t, hub, "ann")
	_ = program.MustRun(t, "connections", "close", "--addr="+hub.Control, id, "--code=4001",
		"--reason=bye")
	line := testkit.WaitForLog(t, hub.Log, "connection closed")
	for key, want := range map[string]any{
		"connection": id, "user": "ann", "namespace": "default",
		"protocol": "plain", "cause": "backend", "code": 4001.0, "reason": "bye",
	} {
		if line[key] != want {
			t.Errorf("%s is %v, want %v", key, line[key], want)
		}
	}
	if strings.Contains(hub.Log.String(), "access=secret") {
		t.Error("the log has a query string")
	}
}
