package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/nodetest"
	"github.com/connhub/connhub/test/bed"
)

// The promises of a shutdown: for calls in flight, for clients to go, for the last answers.
const callsGrace, clientsGrace, answersGrace = 3 * time.Second, 3 * time.Second, time.Second

// secondSignalAfter is the time after the first signal from which a signal counts as the second.
const secondSignalAfter = time.Second

// narrowFill are more MiB than the kernel keeps on the way to a narrow client that does not read:
// the 4 MiB of the socket of the hub (tcp_wmem).
const narrowFill = 8

// dialNarrow connects a client that does not read for now: its kernel keeps little for it,
// so that it has little to read when it does.
func dialNarrow(t *testing.T, address, query string) *websocket.Conn {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 64<<10)
		})
		return errors.Join(err, failed)
	}}
	client := http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	return testkit.DialClientWith(t, address, query, &websocket.DialOptions{HTTPClient: &client})
}

// callAnswer holds the results of a call.
type callAnswer struct {
	receipt *controlv1.Receipt
	err     error
}

// sendAndWait sends in the background a message to a user and waits a minute at most until it is
// written.
func sendAndWait(t *testing.T, conn *grpc.ClientConn, user string) <-chan callAnswer {
	t.Helper()
	answers := make(chan callAnswer, 1)
	go func() {
		response, err := controlv1.NewDeliveryServiceClient(conn).Send(context.Background(),
			&controlv1.SendRequest{
				Target: &controlv1.Target{Users: []string{user}}, Wait: controlv1.Wait_WAIT_WRITTEN,
				WaitTimeout: durationpb.New(time.Minute),
				Message:     &controlv1.Message{Payload: &controlv1.Message_Text{Text: "last"}},
			})
		answers <- callAnswer{response.GetReceipt(), err}
	}()
	return answers
}

// waitForLast waits until the message of sendAndWait is in the outbox behind those of fill: then
// the call is in flight. Its frame is the only frame that is shorter than 1 MiB.
func waitForLast(t *testing.T, conn *grpc.ClientConn, user string) {
	t.Helper()
	const filler = 1<<20 + 10 // with its frame header (RFC 6455 §5.2)
	testkit.Eventually(t, "the last message for "+user+" is queued", func() bool {
		r, err := controlv1.NewConnectionServiceClient(conn).ListConnections(t.Context(),
			&controlv1.ListConnectionsRequest{
				Target: &controlv1.Target{Users: []string{user}},
			})
		if err != nil || len(r.GetConnections()) != 1 {
			t.Fatalf("connections of %s: %v, %v", user, r, err)
		}
		return r.GetConnections()[0].GetQueuedBytes()%filler != 0
	})
}

// largeOutbox lets a message wait behind those of nodetest.FillOutbox.
const largeOutbox = "--outbox-bytes=64MiB"

func TestSIGTERMFinishesCallsClosesClientsAndExits0(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.DevArgs(t, largeOutbox)...)
	idle := testkit.DialClient(t, p.Clients, "user=idle")
	slow := dialNarrow(t, p.Clients, "user=slow") // does not read until the signal
	dialNarrow(t, p.Clients, "user=stuck")        // never reads
	control := testkit.DialControl(t, p.Control)
	health := healthv1.NewHealthClient(control)
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := watch.Recv(); err != nil || r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		t.Fatalf("health before: %v, %v", r, err)
	}
	filled := nodetest.FillOutbox(t, control, "slow", narrowFill)
	nodetest.FillOutbox(t, control, "stuck", narrowFill)
	slowCall, stuckCall := sendAndWait(t, control, "slow"), sendAndWait(t, control, "stuck")
	for _, user := range []string{"slow", "stuck"} {
		waitForLast(t, control, user)
	}

	meter := p.NewMeter()
	defer meter.Stop()
	began := time.Now()
	p.Signal(t, syscall.SIGTERM)
	_ = testkit.WaitForLog(t, p.Log, "shutting down")
	if g := testkit.Get(t, "http://"+p.Ops+"/readyz", nil); g.Code != 503 ||
		g.Body != "shutting down\n" {
		t.Errorf("/readyz: %d %q", g.Code, g.Body)
	}
	if g := testkit.Get(t, "http://"+p.Ops+"/healthz", nil); g.Code != 200 {
		t.Errorf("/healthz: %d", g.Code)
	}
	if r, err := watch.Recv(); err == nil &&
		r.GetStatus() != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("health: %v", r)
	}
	if conn, _, err := websocket.Dial(t.Context(), "ws://"+p.Clients+"/ws", nil); err == nil {
		t.Error("a new client was let in")
		_ = conn.CloseNow()
	}

	// The call to the slow client ends as it should: its client reads now.
	for i := range filled + 1 {
		if got := testkit.NextMessage(t, slow); i == filled && got != "last" {
			t.Errorf("the last message is %.10q", got)
		}
	}
	if a := <-slowCall; a.err != nil || a.receipt.GetWritten() != 1 {
		t.Errorf("the call to the slow client: %v, %v", a.receipt, a.err)
	}
	// The call to the stuck client ends because that client, which reads nothing, is cut. Its
	// receipt says so.
	if a := <-stuckCall; a.err != nil || len(a.receipt.GetDropped()) != 1 ||
		a.receipt.GetDropped()[0].GetReason() != controlv1.DropReason_DROP_REASON_CLOSED {
		t.Errorf("the call to the stuck client: %v, %v", a.receipt, a.err)
	}
	if took, most := time.Since(began),
		meter.Limit(callsGrace+clientsGrace+answersGrace); took < callsGrace || took > most {
		t.Errorf("the last call had %v, want %v to %v", took, callsGrace, most)
	}
	for name, conn := range map[string]*websocket.Conn{"idle": idle, "slow": slow} {
		_, _, err := conn.Read(t.Context())
		if websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("the %s client sees %v, want 1001", name, err)
		}
	}
	if code := p.ExitCodeWithin(t, meter, 10*time.Second); code != 0 {
		t.Errorf("exit %d:\n%s", code, p.Log)
	}
	_ = testkit.WaitForLog(t, p.Log, "stopped")
}

func TestSecondSignalExits1AtOnce(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.DevArgs(t, largeOutbox)...)
	dialNarrow(t, p.Clients, "user=stuck")
	control := testkit.DialControl(t, p.Control)
	nodetest.FillOutbox(t, control, "stuck", narrowFill)
	call := sendAndWait(t, control, "stuck")
	waitForLast(t, control, "stuck")
	p.Signal(t, syscall.SIGINT)
	_ = testkit.WaitForLog(t, p.Log, "shutting down")
	<-time.After(secondSignalAfter) // earlier it does not count as the second
	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, time.Second); code != terminal.ExitError {
		t.Errorf("exit %d", code)
	}
	if a := <-call; a.err == nil {
		t.Errorf("the call in flight: %v", a.receipt)
	}
}

// GNU timeout signals the hub, and at once its group. Here the second signal is a different
// signal, because the system may merge two equal signals that wait.
func TestASignalThatComesTwiceAtOnceIsOne(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.DevArgs(t)...)
	client := testkit.DialClient(t, p.Clients, "user=ann")
	p.Signal(t, syscall.SIGTERM)
	p.Signal(t, syscall.SIGINT)
	requireStop(t, p, client)
}

func TestIdleHubStopsAtOnce(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		p := bed.StartReady(t, bed.ServeArgs(t)...)
		p.Signal(t, s)
		if code := p.ExitCode(t, 2*time.Second); code != 0 {
			t.Errorf("%v: exit %d:\n%s", s, code, p.Log)
		}
	}
}

func TestReadyLineIsJSONWithRealAddresses(t *testing.T) {
	t.Parallel()
	p := bed.StartReady(t, bed.ServeArgs(t)...)
	for name, address := range map[string]string{
		"clients": p.Clients, "control": p.Control, "ops": p.Ops,
	} {
		host, port, err := net.SplitHostPort(address)
		if err != nil || host != "127.0.0.1" || port == "0" {
			t.Errorf("%s: %q, %v", name, address, err)
		}
		var dialer net.Dialer
		conn, err := dialer.DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Errorf("%s is not bound: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
	config, ok := testkit.WaitForLog(t, p.Log, "effective configuration")["config"].(map[string]any)
	if !ok || config["public_url"] != "https://hub.example/edge" ||
		config["max_connections"] != "1000000" || config["outbox_bytes"] != "4MiB" {
		t.Errorf("effective configuration: %v", config)
	}
	for line := range bytes.Lines([]byte(p.Log.String())) {
		if !json.Valid(line) {
			t.Errorf("not JSON: %s", line)
		}
	}
	for _, secret := range []string{testkit.SomeSecret, testkit.SomeKey} {
		if bytes.Contains([]byte(p.Log.String()), []byte(secret)) {
			t.Error("the log has a secret")
		}
	}
}

func TestTokensOfDevOutliveARestart(t *testing.T) {
	args := bed.DevArgs(t)
	first := bed.StartReady(t, args...)
	token := bed.Program.MustRun(t, "token", "--addr="+first.Control, "--user=ann", "--json")
	first.Signal(t, syscall.SIGTERM)
	if code := first.ExitCode(t, 5*time.Second); code != 0 {
		t.Fatalf("exit %d", code)
	}
	args[1] = "--listen-clients=" + first.Clients
	second := bed.StartReady(t, args...)
	var issued struct{ URL string }
	if err := json.Unmarshal([]byte(token), &issued); err != nil {
		t.Fatal(err)
	}
	conn, response, err := websocket.Dial(t.Context(), issued.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	_ = conn.CloseNow()
	if second.Clients != first.Clients {
		t.Errorf("listens on %s", second.Clients)
	}
}

func TestOperatorIsInterruptedByASignal(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	silent, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	var stderr bytes.Buffer
	cmd := bed.Command(t, "hubs", "--addr="+silent.Addr().String(), "--timeout=1m")
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept() // it is in the call now
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*exec.ExitError](cmd.Wait())
	if !ok || exit.ExitCode() != terminal.ExitError || stderr.String() != "connhub: interrupted\n" {
		t.Errorf("%v, %q", exit, stderr.String())
	}
}
