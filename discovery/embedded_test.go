package discovery_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/testkit"
)

func embedded(t *testing.T, dir, address string, log *slog.Logger) (*discovery.Embedded, error) {
	t.Helper()
	config := discovery.DefaultEmbeddedConfig()
	config.Dir, config.ClientAddress, config.Logger = dir, address, log
	e, err := discovery.StartEmbedded(t.Context(), config)
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
	_, err = embedded(t, dir, l.Addr().String(), slog.New(slog.DiscardHandler))
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "address "+l.Addr().String()+" is taken") {
		t.Errorf("got %v", err)
	}
	if _, err := embedded(t, dir, "127.0.0.1:0", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the failure left something behind: %v", err)
	}
}

func TestAFolderServesOneProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e, err := embedded(t, dir, "127.0.0.1:0", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := embedded(t, dir, "127.0.0.1:0", slog.New(slog.DiscardHandler)); !errors.Is(err, discovery.ErrInUse) || !strings.Contains(err.Error(), dir+" is in use") {
		t.Errorf("got %v", err)
	}
	e.Close()
	if _, err := embedded(t, dir, "127.0.0.1:0", slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestAnEmbeddedEtcdIsOnlyForThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "0.0.0.0:2379", "192.0.2.1:2379", "[::]:0", "127.0.0.1", "localhost", "localhost:http", "localhost:65536", "etcd.example:2379"} {
		if _, err := embedded(t, t.TempDir(), address, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("%q: %v", address, err)
		}
	}
	_, err := discovery.StartEmbedded(t.Context(), discovery.EmbeddedConfig{})
	for _, want := range []string{"Dir", "ClientAddress", "Logger"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want word of %s", err, want)
		}
	}
}

func TestAnEmbeddedEtcdTakesTheNamesOfThisMachine(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"localhost:0", "etcd.LOCALHOST:0"} {
		e, err := embedded(t, t.TempDir(), address, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Errorf("%q: %v", address, err)
			continue
		}
		if host, _, err := net.SplitHostPort(e.Endpoint()); err != nil || !net.ParseIP(host).IsLoopback() {
			t.Errorf("%q: it listens at %s", address, e.Endpoint())
		}
		e.Close()
	}
}

func TestAStartThatIsCalledOffLeavesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	config := discovery.DefaultEmbeddedConfig()
	config.Dir, config.ClientAddress = t.TempDir(), "127.0.0.1:0"
	if e, err := discovery.StartEmbedded(ctx, config); err == nil {
		e.Close() // it was quicker
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := embedded(t, config.Dir, "127.0.0.1:0", slog.New(slog.DiscardHandler)); err != nil {
		t.Error(err)
	}
}

func TestAnEmbeddedEtcdIsQuietAndCloseIsQuick(t *testing.T) {
	t.Parallel()
	var log journal
	e, err := embedded(t, t.TempDir(), "127.0.0.1:0", log.logger(slog.LevelDebug))
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, at(e.Endpoint()))
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")
	meter := testkit.NewMeter()
	defer meter.Stop()
	begin := time.Now()
	e.Close()                                                         // with a watch and a lease open
	if took := time.Since(begin); took > meter.Limit(5*time.Second) { // of the 7 that etcd would wait
		t.Errorf("Close took %v", took)
	}
	if log.count("etcd says") == 0 {
		t.Error("nothing at Debug")
	}
	equal(t, "lines above Debug", log.count("level=INFO")+log.count("level=WARN")+log.count("level=ERROR"), 0)
}

// A web site can have its own name point to this machine (DNS rebinding).
func TestOnlyThisMachinesNamesReachTheEmbeddedEtcd(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	_, port, err := net.SplitHostPort(etcd.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]int{
		"127.0.0.1": http.StatusOK, "localhost": http.StatusOK, "evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
	} {
		for _, path := range []string{"/version", "/metrics"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+etcd.Endpoint()+path, nil)
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
