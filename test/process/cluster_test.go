package process

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// door is an address behind which etcd may be. A test knows it before it starts etcd.
type door struct {
	listener net.Listener
	passages sync.WaitGroup

	mu     sync.Mutex
	target string // empty: connections are turned away
	conns  []net.Conn
}

func newDoor(t *testing.T) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{listener: l}
	d.passages.Go(d.accept)
	t.Cleanup(func() {
		_ = l.Close()
		d.mu.Lock()
		for _, c := range d.conns {
			_ = c.Close()
		}
		d.mu.Unlock()
		d.passages.Wait()
	})
	return d
}

func (d *door) address() string { return d.listener.Addr().String() }

func (d *door) open(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = target
}

func (d *door) accept() {
	for {
		in, err := d.listener.Accept()
		if err != nil {
			return
		}
		if !d.pass(in) {
			_ = in.Close()
		}
	}
}

func (d *door) pass(in net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.target == "" {
		return false
	}
	out, err := net.Dial("tcp", d.target)
	if err != nil {
		return false
	}
	d.conns = append(d.conns, in, out)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		d.passages.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = in.Close()
			_ = out.Close()
		})
	}
	return true
}

// awaitHubs waits until a hub lists so many.
func awaitHubs(t *testing.T, p *bed.Process, n int, flags ...string) {
	t.Helper()
	testkit.Eventually(t, "all hubs are listed", func() bool {
		var list controlv1.ListHubsResponse
		if err := protojson.Unmarshal([]byte(
			bed.Program.MustRun(t, append([]string{"hubs", "--json", "--addr=" + p.Control},
				flags...)...),
		), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.GetHubs()) == n
	})
}

func TestASecondDevJoinsTheFirstAndOutlivesIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	common := []string{
		"dev", "--listen-clients=127.0.0.1:0", "--listen-control=127.0.0.1:0",
		"--listen-ops=127.0.0.1:0", "--data-dir=" + dir, "--public-url=http://127.0.0.1:8080",
	}
	first := bed.StartReady(t, append(common, "--etcd-listen=127.0.0.1:0")...)
	address, _ := testkit.WaitForLog(t, first.Log, "starting")["etcd"].(string)
	second := bed.StartReady(t, append(common, "--join="+address)...)
	awaitHubs(t, first, 2)
	awaitHubs(t, second, 2)

	// A third hub would start a second etcd in the same folder.
	r := bed.Program.Run(
		t, "", append(common, "--etcd-listen=127.0.0.1:0", "--log-level=error")...,
	)
	if r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "the etcd in "+dir) || !strings.Contains(r.Stderr, "--join") {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}

	ann := testkit.DialClient(t, second.Clients, "user=ann")
	_ = bed.Program.MustRun(t, "send", "--addr="+first.Control, "--user=ann", "over the mesh")
	if got := testkit.NextMessage(t, ann); got != "over the mesh" {
		t.Errorf("got %q", got)
	}
	var issued struct{ URL string }
	if err := json.Unmarshal(
		[]byte(bed.Program.MustRun(t, "token", "--addr="+first.Control, "--user=bob", "--json")),
		&issued,
	); err != nil {
		t.Fatal(err)
	}
	bob, response, err := websocket.Dial(
		t.Context(), strings.Replace(issued.URL, "127.0.0.1:8080", second.Clients, 1), nil,
	)
	if err != nil {
		t.Fatalf("the second hub refuses a token of the first: %v", err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	defer func() { _ = bob.CloseNow() }()

	first.Kill(t) // and etcd with it
	_ = bed.Program.MustRun(t, "send", "--addr="+second.Control, "--user=ann", "still here")
	if got := testkit.NextMessage(t, ann); got != "still here" {
		t.Errorf("got %q", got)
	}
	carol := testkit.DialClient(t, second.Clients, "user=carol")
	_ = bed.Program.MustRun(t, "send", "--addr="+second.Control, "--user=carol", "welcome")
	if got := testkit.NextMessage(t, carol); got != "welcome" {
		t.Errorf("got %q", got)
	}
	if g := testkit.Get(t, "http://"+second.Ops+"/readyz", nil); g.Code != 200 {
		t.Errorf("/readyz: %d %s", g.Code, g.Body)
	}
	for _, client := range []*websocket.Conn{ann, bob, carol} { // they would not read its close
		_ = client.CloseNow()
	}
	second.Signal(t, syscall.SIGTERM)
	if code := second.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, second.Log)
	}
}

func TestAHubWaitsForEtcdAndSaysSo(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	p := bed.StartBound(t, bed.MemberArgs(d.address())...)
	quits := bed.StartBound(t, bed.MemberArgs(d.address())...)
	for _, p := range []*bed.Process{p, quits} {
		if g := testkit.Get(t, "http://"+p.Ops+"/readyz", nil); g.Code != 503 ||
			g.Body != "joining the cluster: waiting for etcd\n" {
			t.Errorf("/readyz: %d %q", g.Code, g.Body)
		}
	}
	_, err := controlv1.NewGroupServiceClient(testkit.DialControl(t, p.Control)).ListGroups(
		t.Context(), &controlv1.ListGroupsRequest{},
	)
	if status.Code(err) != codes.Unavailable {
		t.Errorf("a backend's call: %v", err)
	}
	early, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if conn, _, err := websocket.Dial(early, "ws://"+p.Clients+"/ws", nil); err == nil {
		t.Error("a client was let in")
		_ = conn.CloseNow()
	}
	if line := testkit.WaitForLog(
		t, p.Log, "etcd can't be reached; retrying",
	); line["reason"] != "broken" || line["error"] == "" {
		t.Errorf("the log says %v", line)
	}
	quits.Signal(t, syscall.SIGTERM)
	if code := quits.ExitCode(t, 2*time.Second); code != 0 {
		t.Errorf("a hub that is not wanted any more exits %d:\n%s", code, quits.Log)
	}

	address := etcdtest.StartEtcd(t)
	d.open(address)
	_ = testkit.WaitForLog(t, p.Log, "ready")
	if g := testkit.Get(t, "http://"+p.Ops+"/readyz", nil); g.Code != 200 {
		t.Errorf("/readyz: %d %q", g.Code, g.Body)
	}
	_ = testkit.DialClient(t, p.Clients, "user=ann").CloseNow()
	awaitHubs(t, p, 1)
	if n := strings.Count(p.Log.String(), "etcd can't be reached"); n != 1 {
		t.Errorf("the log says %d times that etcd is away", n)
	}

	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, p.Log)
	}
	left, err := etcdtest.DialEtcd(t, address).Get(
		t.Context(), "/connhub/hubs/", clientv3.WithPrefix(), clientv3.WithCountOnly(),
	)
	if err != nil || left.Count != 0 {
		t.Errorf("a hub that is gone is listed: %d, %v", left.Count, err)
	}
}

func TestAnUnknownOutcomeIsAFailureOnlyWhenAllHubsAreRequired(t *testing.T) {
	t.Parallel()
	address := etcdtest.StartEtcd(t)
	p := bed.StartReady(t, bed.MemberArgs(address)...)
	const lost = "aaaaaaaa" // a hub that is listed, and does not answer
	member := `{"id":"` + lost +
		`","control_address":"` + newDoor(t).address() + `","started":"2026-01-02T03:04:05Z"}`
	if _, err := etcdtest.DialEtcd(t, address).Put(
		t.Context(), "/connhub/hubs/"+lost, member,
	); err != nil {
		t.Fatal(err)
	}
	awaitHubs(t, p, 2)

	to := func(text string, flags ...string) []string {
		return append(
			[]string{"send", "--addr=" + p.Control, "--user=ann", "--wait=queued", text}, flags...,
		)
	}
	for _, tt := range []struct {
		name, stdin    string
		args           []string
		stdout, stderr string
		code           int
	}{
		{
			"a message", "", to("x"), "○ no connection matched\n",
			"! outcome unknown at aaaaaaaa", terminal.ExitOK,
		},
		{
			"lines", "x\ny\n", to("-"), "○ 2 lines sent: no connection matched\n",
			"! outcome unknown at aaaaaaaa", terminal.ExitOK,
		},
		{
			"a message for all hubs", "", to("x", "--require-all-hubs"), "",
			"connhub: unavailable: a hub that may matter could not be asked (HUBS_UNREACHABLE)\n",
			terminal.ExitError,
		},
		{
			"lines for all hubs", "x\ny\n", to("-", "--require-all-hubs"), "✗ 2 lines failed\n",
			"connhub: line 1: unavailable: a hub that may matter could not be asked " +
				"(HUBS_UNREACHABLE)\n" +
				"connhub: line 2: unavailable: a hub that may matter could not be asked " +
				"(HUBS_UNREACHABLE)\nconnhub: 2 of 2 lines failed\n", terminal.ExitError,
		},
	} {
		r := bed.Program.Run(t, tt.stdin, tt.args...)
		if r.Code != tt.code ||
			!strings.HasPrefix(r.Stdout, tt.stdout) || !strings.HasPrefix(r.Stderr, tt.stderr) {
			t.Errorf("%s: exit %d, %q, %q", tt.name, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// declareDead declares in etcd that the hub of a process is dead.
func declareDead(t *testing.T, p *bed.Process, etcd, hub string) {
	t.Helper()
	p.ExpectErrors("hub was declared dead")
	_, err := etcdtest.DialEtcd(t, etcd).Txn(t.Context()).Then(
		clientv3.OpDelete("/connhub/hubs/"+hub),
		clientv3.OpPut("/connhub/dead/"+hub, `{"by":"another"}`),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAHubThatWasDeclaredDeadClosesItsClientsAndStartsAnew(t *testing.T) {
	t.Parallel()
	address := etcdtest.StartEtcd(t)
	p := bed.StartReady(t, bed.MemberArgs(address)...)
	ann := testkit.DialClient(t, p.Clients, "user=ann")
	id, _ := testkit.WaitForLog(t, p.Log, "ready")["hub"].(string)
	declareDead(t, p, address, id)
	if _, _, err := ann.Read(
		t.Context(),
	); websocket.CloseStatus(err) != websocket.StatusServiceRestart {
		t.Errorf("its client sees %v", err)
	}
	if line := testkit.WaitForLog(t, p.Log, "starting anew as another hub"); line["was"] != id ||
		line["hub"] == id {
		t.Errorf("the log says %v", line)
	}
	requireAnother(t, p, id, "declared_dead")
}

func TestAHubThatCanNotJoinEnds(t *testing.T) {
	t.Parallel()
	address := etcdtest.StartEtcd(t)
	if _, err := etcdtest.DialEtcd(t, address).Put(t.Context(), "/broken/cluster",
		"\n"); err != nil {
		t.Fatal(err)
	}
	r := bed.Program.Run(
		t, "", bed.MemberArgs(address, "--etcd-prefix=/broken", "--log-level=error")...,
	)
	if r.Code != terminal.ExitError || !strings.Contains(r.Stderr,
		"connhub: /broken in etcd at "+address+" is not the cluster that this hub can join") {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}
}

func TestHubsWithSecretsAndTLSFindEachOther(t *testing.T) {
	t.Parallel()
	address, dir := etcdtest.StartEtcd(t), t.TempDir()
	cert, key := testkit.WriteCertificate(t, dir, "hub")
	backend := testkit.WriteFile(t, "backend", testkit.SomeSecret+"\n")
	args := []string{
		"serve", "--drain-delay=0s", "--listen-clients=127.0.0.1:0",
		"--listen-control=127.0.0.1:0", "--listen-ops=127.0.0.1:0", "--etcd-endpoints=" + address,
		"--public-url=https://hub.example",
		"--token-key-file=" + testkit.WriteFile(t, "k", testkit.SomeKey),
		"--backend-secret-file=" + backend,
		"--control-tls-cert-file=" + cert, "--control-tls-key-file=" + key,
		"--peer-ca-file=" + cert,
	}
	// In the middle of a change of secrets: the first hub dials with the old secret, the second
	// with the new secret.
	const oldSecret, newSecret = "peer-secret-that-is-old-0123456789-0123",
		"peer-secret-that-is-new-0123456789-0123"
	first := bed.StartReady(
		t, append(args, "--peer-secret-file="+
			testkit.WriteFile(t, "p1", oldSecret+"\n"+newSecret+"\n"))...,
	)
	second := bed.StartReady(
		t, append(args, "--peer-secret-file="+
			testkit.WriteFile(t, "p2", newSecret+"\n"+oldSecret+"\n"))...,
	)
	for _, p := range []*bed.Process{first, second} {
		awaitHubs(t, p, 2, "--tls-ca-file="+cert, "--secret-file="+backend)
		_ = testkit.WaitForLog(t, p.Log, "linked")
	}
	for _, p := range []*bed.Process{first, second} {
		for _, secret := range []string{testkit.SomeSecret, testkit.SomeKey, oldSecret, newSecret} {
			if strings.Contains(p.Log.String(), secret) {
				t.Error("the log has a secret")
			}
		}
	}
}
