package main

import (
	"bytes"
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName {
		main() // it ends the process
	}
	flag.Parse()
	// Nothing of the environment that the tests run in may reach the commands.
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "CONNHUB_") {
			_ = os.Unsetenv(name)
		}
	}
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	removeBinary()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// result is what a command wrote, and its exit code.
type result struct {
	stdout, stderr string
	code           int
}

// connhub runs a command line in this process, with stdin.
func connhub(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := runArgs(t.Context(), args, terminal.New(strings.NewReader(stdin), &stdout, &stderr))
	return result{stdout.String(), stderr.String(), code}
}

// mustRun is connhub for commands that must succeed; it returns what they print.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := connhub(t, "", args...)
	if r.code != terminal.ExitOK {
		t.Fatalf("connhub %q exits %d: %s", args, r.code, r.stderr)
	}
	return r.stdout
}

// parse returns the command line as kong reads it.
func parse(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	line, err := takeCommandLine(&bytes.Buffer{}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	defer returnCommandLine(line)
	_, err = line.parser.Parse(args)
	values := line.values
	return &values, err
}

// running is a hub in this process.
type running struct {
	addresses

	log *testkit.LockedBuffer
}

// start runs `dev` on free ports, as the only hub, until the test ends; change may alter its plan.
func start(t *testing.T, change func(*serverPlan)) *running {
	t.Helper()
	c, err := parse(t, "dev", "--listen-clients=127.0.0.1:0",
		"--listen-control=127.0.0.1:0", "--listen-ops=127.0.0.1:0",
		"--data-dir="+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Dev.planHub()
	if err != nil {
		t.Fatal(err)
	}
	plan.cluster = nil
	if change != nil {
		change(&plan)
	}
	r := &running{log: &testkit.LockedBuffer{}}
	ready, ended := make(chan addresses, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		log := openLog(r.log, "json", 0)
		defer log.Close()
		ended <- runServer(ctx, plan, log, func(a addresses) { ready <- a })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the hub ends with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	select {
	case r.addresses = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the hub does not start: %v", err)
	}
	return r
}

// dialClient connects a WebSocket client; query says who it is.
func dialClient(t *testing.T, address, query string) *websocket.Conn {
	t.Helper()
	return dialClientWith(t, address, query, nil)
}

func dialClientWith(
	t *testing.T, address, query string, options *websocket.DialOptions,
) *websocket.Conn {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), "ws://"+address+"/ws?"+query, options)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

// next reads a client's next message.
func next(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	type message struct {
		text []byte
		err  error
	}
	c := make(chan message, 1)
	go func() {
		_, b, err := conn.Read(t.Context())
		c <- message{b, err}
	}()
	m, _ := testkit.Receive(t, "the next message", c)
	if m.err != nil {
		t.Fatal(m.err)
	}
	return string(m.text)
}
