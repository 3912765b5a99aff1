package embedded_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/testkit"
)

var silent = slog.New(slog.DiscardHandler)

func start(t *testing.T, dir, address string, log *slog.Logger) (*embedded.Etcd, error) {
	t.Helper()
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress, config.Logger = dir, address, log
	e, err := embedded.Start(t.Context(), config)
	if err == nil {
		t.Cleanup(e.Close)
	}
	return e, err
}

func TestATakenAddressIsNamed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = start(t, dir, l.Addr().String(), silent)
	want := "address " + l.Addr().String() + " is taken"
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v", err)
	}
	if _, err := start(t, dir, "127.0.0.1:0", silent); err != nil {
		t.Errorf("the failure left something behind: %v", err)
	}
}

func TestAFolderServesOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := start(t, dir, "127.0.0.1:0", silent)
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(t, dir, "127.0.0.1:0", silent)
	if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), dir+" is in use") {
		t.Errorf("got %v", err)
	}
	e.Close()
	if _, err := start(t, dir, "127.0.0.1:0", silent); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestAnEmbeddedEtcdIsOnlyForThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "0.0.0.0:2379", "192.0.2.1:2379", "[::]:0", "127.0.0.1",
		"localhost", "localhost:http", "localhost:65536", "etcd.example:2379",
	} {
		_, err := start(t, t.TempDir(), address, silent)
		if err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q: %v", address, err)
		}
	}
	_, err := embedded.Start(t.Context(), embedded.Config{})
	for _, want := range []string{"Dir", "ClientAddress"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want word of %s", err, want)
		}
	}
}

func TestAnEmbeddedEtcdTakesTheNamesOfThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"localhost:0", "etcd.LOCALHOST:0"} {
		e, err := start(t, t.TempDir(), address, silent)
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		host, _, err := net.SplitHostPort(e.Endpoint())
		if err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("%q: it listens at %s", address, e.Endpoint())
		}
		e.Close()
	}
}

func TestAStartThatIsCalledOffLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress = t.TempDir(), "127.0.0.1:0"
	if e, err := embedded.Start(ctx, config); err == nil {
		e.Close() // it was quicker
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := start(t, config.Dir, "127.0.0.1:0", silent); err != nil {
		t.Error(err)
	}
}

func TestAnEmbeddedEtcdIsQuietAndCloseIsQuick(t *testing.T) {
	t.Parallel()
	var lines levels
	e, err := start(t, t.TempDir(), "127.0.0.1:0", slog.New(&lines))
	if err != nil {
		t.Fatal(err)
	}
	openWatchAndLease(t, e.Endpoint())
	meter := testkit.NewMeter()
	defer meter.Stop()
	begin := time.Now()
	e.Close() // with a watch and a lease open
	// etcd itself would wait for 7 seconds.
	if took := time.Since(begin); took > meter.Limit(5*time.Second) {
		t.Errorf("Close took %v", took)
	}
	if lines.debug.Load() == 0 {
		t.Error("nothing at Debug")
	}
	if n := lines.above.Load(); n != 0 {
		t.Errorf("%d lines above Debug", n)
	}
}

// levels is a log handler that counts the lines at Debug and the lines above.
type levels struct{ debug, above atomic.Int64 }

func (*levels) Enabled(context.Context, slog.Level) bool { return true }

func (l *levels) Handle(_ context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug {
		l.above.Add(1)
	} else {
		l.debug.Add(1)
	}
	return nil
}

func (l *levels) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *levels) WithGroup(string) slog.Handler { return l }

// openWatchAndLease registers a hub and watches it, until the test ends.
func openWatchAndLease(t *testing.T, endpoint string) {
	t.Helper()
	config := discovery.DefaultConfig()
	config.Endpoints = []string{endpoint}
	r, err := discovery.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	w := r.Watch()
	t.Cleanup(w.Close)
	hub := discovery.Member{ID: "a", ControlAddress: "127.0.0.1:9090"}
	if err := r.Register(t.Context(), hub); err != nil {
		t.Fatal(err)
	}
	for {
		s, ok := testkit.Receive(t, "a snapshot with the hub", w.Snapshots())
		if _, seen := s.Members["a"]; seen {
			return
		}
		if !ok {
			t.Fatal("the watcher was closed")
		}
	}
}

// A web site can have its own name point to this machine (DNS rebinding).
func TestOnlyThisMachinesNamesReachTheEmbeddedEtcd(t *testing.T) {
	t.Parallel()
	etcd, err := start(t, t.TempDir(), "127.0.0.1:0", silent)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(etcd.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"127.0.0.1": http.StatusOK, "localhost": http.StatusOK,
		"evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/version", "/metrics"} {
			url := "http://" + etcd.Endpoint() + path
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Host = host + ":" + port; host == "" {
				r.Host = "127.0.0.1.evil.example"
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s of %s: %d, want %d", path, r.Host, response.StatusCode, want)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
}
