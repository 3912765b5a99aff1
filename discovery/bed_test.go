package discovery_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/testkit"
)

// patience limits the wait for an event that must come. A test that passes never waits so long.
const patience = 3 * time.Minute

var (
	runs     atomic.Int64
	prefixes sync.Map // from *testing.T to string
)

// prefixOf returns the test's own prefix in the shared etcd. Each run of the test has a new prefix.
func prefixOf(t *testing.T) string {
	prefix, ok := prefixes.Load(t)
	if !ok {
		prefix, _ = prefixes.LoadOrStore(t,
			fmt.Sprintf("/%s.%d", strings.ReplaceAll(t.Name(), "/", "."), runs.Add(1)))
	}
	return prefix.(string)
}

// open returns a Registry on the shared etcd, with the test's own prefix. The end of the test
// closes it.
func open(t *testing.T, change ...func(*discovery.Config)) *discovery.Registry {
	t.Helper()
	config := discovery.DefaultConfig()
	config.Endpoints = []string{shared.Endpoint()}
	config.Prefix = prefixOf(t)
	for _, f := range change {
		f(&config)
	}
	r, err := discovery.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// at and lease are changes of a Config, for open.
func at(endpoint string) func(*discovery.Config) {
	return func(c *discovery.Config) { c.Endpoints = []string{endpoint} }
}

func lease(ttl time.Duration) func(*discovery.Config) {
	return func(c *discovery.Config) { c.LeaseTTL = ttl }
}

// admin returns a plain client of etcd.
func admin(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: patience, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func put(t *testing.T, client *clientv3.Client, key, value string) {
	t.Helper()
	if _, err := client.Put(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

func member(id string) discovery.Member {
	return discovery.Member{
		ID: id, Name: "pod-" + id, Zone: "z1", Version: "v1.2.3", ControlAddress: "127.0.0.1:9090",
		Started: time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC),
	}
}

func register(t *testing.T, r *discovery.Registry, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.Register(ctx, member(id)); err != nil {
		t.Fatal(err)
	}
}

// watch returns a Watcher that is closed with the test.
func watch(t *testing.T, r *discovery.Registry) *discovery.Watcher {
	t.Helper()
	w := r.Watch()
	t.Cleanup(w.Close)
	return w
}

// next returns the next Snapshot.
func next(t *testing.T, w *discovery.Watcher) discovery.Snapshot {
	t.Helper()
	s, ok := testkit.Receive(t, "a snapshot", w.Snapshots())
	if !ok {
		t.Fatal("watcher was closed")
	}
	return s
}

// sees waits for a Snapshot with exactly these members.
func sees(t *testing.T, w *discovery.Watcher, ids ...string) discovery.Snapshot {
	t.Helper()
	slices.Sort(ids)
	var last []string
	for {
		s, ok := testkit.Receive(t, fmt.Sprintf("%q; the last were %q", ids, last), w.Snapshots())
		if !ok {
			t.Fatal("watcher was closed")
		}
		last = slices.Sorted(maps.Keys(s.Members))
		if slices.Equal(last, ids) {
			return s
		}
	}
}

// eventually polls for a state that no channel announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, what, ok)
}

// closes waits for a channel to be closed.
func closes(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	testkit.Receive(t, what+" is closed", c)
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// journal is a logger that a test can read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

// count returns how many lines have the text.
func (j *journal) count(text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), text)
}

func (j *journal) logger(least slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: least}))
}

func logTo(j *journal) func(*discovery.Config) {
	return func(c *discovery.Config) { c.Logger = j.logger(slog.LevelInfo) }
}

// counters is a registry of metrics that a test can read.
type counters struct {
	*prometheus.Registry

	t *testing.T
}

func count(t *testing.T) *counters {
	return &counters{Registry: prometheus.NewPedanticRegistry(), t: t}
}

func (c *counters) into(config *discovery.Config) { config.Metrics = c }

// sum returns a metric by its name, summed over all labels.
func (c *counters) sum(name string) float64 { return c.value(name, "") }

// value returns a metric by its name and the value of its label. For "" it sums over all labels.
func (c *counters) value(name, label string) float64 {
	c.t.Helper()
	sum, found := 0.0, false
	families, err := c.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				sum, found = sum+m.GetGauge().GetValue()+m.GetCounter().GetValue(), true
			}
		}
	}
	if !found {
		c.t.Fatalf("no metric %s with %q", name, label)
	}
	return sum
}

// server is an etcd that a test may stop, start and empty. It keeps its address.
type server struct {
	*embedded.Etcd

	t       *testing.T
	dir     string
	address string
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), address: "127.0.0.1:0"}
	s.start()
	s.address = s.Endpoint()
	t.Cleanup(func() { s.Close() })
	return s
}

func (s *server) start() {
	s.t.Helper()
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress = s.dir, s.address
	config.NoSync = true
	var err error
	if s.Etcd, err = embedded.Start(s.t.Context(), config); err != nil {
		s.t.Fatal(err)
	}
}

// restartEmpty restarts etcd without its data.
func (s *server) restartEmpty() {
	s.t.Helper()
	s.Close()
	s.dir = s.t.TempDir()
	s.start()
}
