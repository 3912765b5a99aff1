package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/loopback"
	"github.com/connhub/connhub/internal/neterr"
)

const (
	// opsTimeout bounds a request to the operations of a hub. A large hub needs time to collect its
	// garbage.
	opsTimeout = 10 * time.Second
	// defaultOps is the operations port of a hub with all defaults.
	defaultOps = "127.0.0.1:9100"
	// opsShare is the share of the connections that the asked hubs must see. Below it the load is
	// on hubs that were not asked. Connections of other clients may come and go meanwhile.
	opsShare = 0.9
)

// benchOps asks hubs for their use of CPU and memory.
type benchOps struct {
	urls    []string
	guessed bool
	secret  string
	http    *http.Client
	unknown string // why the figures are unknown; empty: they are known
}

// opsSample is the total use of the hubs until a moment.
type opsSample struct {
	cpu         float64 // seconds
	memory      int64   // bytes of the processes in memory
	heap        int64   // bytes of it in use: Go's heap and stacks
	connections int64
	unknown     string // why the figures are unknown; empty: they are known
}

// newBenchOps asks the hubs of --ops-url, or else the default address if the hub is on this
// machine.
func newBenchOps(f *benchFlags) *benchOps {
	o := &benchOps{
		urls: f.OpsURL,
		http: &http.Client{Timeout: opsTimeout, Transport: &http.Transport{}},
	}
	if len(o.urls) == 0 {
		o.guessed = true
		o.urls = []string{"http://" + defaultOps}
		if host, _, err := net.SplitHostPort(f.Addr); err != nil || !loopback.IsHost(host) {
			o.unknown = "no --ops-url was given"
		}
	}
	if f.OpsSecret != "" {
		secret, err := dial.ReadSecret("--ops-secret-file", f.OpsSecret)
		if err != nil {
			o.unknown = err.Error()
		}
		o.secret = secret
	}
	return o
}

// takeSample asks all hubs.
func (o *benchOps) takeSample(ctx context.Context) (sum opsSample) {
	if o.unknown != "" {
		return opsSample{unknown: o.unknown}
	}
	defer o.http.CloseIdleConnections()
	for _, base := range o.urls {
		if err := o.getPath(ctx, base, "/metrics", sum.addMetrics); err != nil {
			return opsSample{unknown: o.unknownWords(base, err)}
		}
	}
	return sum
}

// unknownWords words an error that leaves the figures unknown.
func (o *benchOps) unknownWords(base string, err error) string {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = errors.New(neterr.Words(failed.Err))
	}
	text := fmt.Sprintf("%s: %v", base, err)
	if o.guessed {
		text += " (--ops-url names another address)"
	}
	return terminal.MakePrintable(text)
}

// getPath asks a hub, and passes the answer to read.
func (o *benchOps) getPath(
	ctx context.Context, base, path string, read func(io.Reader) error,
) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet,
		strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/metrics")+path, http.NoBody)
	if err != nil {
		return err
	}
	if o.secret != "" {
		request.Header.Set("Authorization", "Bearer "+o.secret)
	}
	response, err := o.http.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return read(response.Body)
}

// addMetrics adds the metrics of a hub (text format of Prometheus).
func (s *opsSample) addMetrics(r io.Reader) error {
	lines, found := bufio.NewScanner(r), false
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			// a comment, or a label with a blank; none of the metrics below has such a label
			continue
		}
		switch name {
		case "process_cpu_seconds_total":
			s.cpu += number
			found = true
		case "process_resident_memory_bytes":
			s.memory += int64(number)
		case "go_memstats_heap_inuse_bytes", "go_memstats_stack_inuse_bytes":
			s.heap += int64(number)
		case "connhub_connections":
			s.connections += int64(number)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !found {
		return errors.New("it tells no process_cpu_seconds_total")
	}
	return nil
}

// checkLoad checks that the load is on the hubs that were asked.
func (o *benchOps) checkLoad(before, after opsSample, connections int) {
	seen := after.connections - before.connections
	if o.unknown == "" && before.unknown == "" && after.unknown == "" &&
		float64(seen) < opsShare*float64(connections) {
		o.unknown = fmt.Sprintf("%s saw %s of %s connections come: name all hubs with --ops-url",
			strings.Join(o.urls, ", "), groupDigits(max(seen, 0)), groupDigits(connections))
	}
}

// collectGarbage makes the hubs collect their garbage, so that memory is the memory in use.
func (o *benchOps) collectGarbage(ctx context.Context) {
	if o.unknown != "" {
		return
	}
	defer o.http.CloseIdleConnections()
	for _, base := range o.urls {
		// without it the figure is larger
		_ = o.getPath(ctx, base, "/debug/pprof/heap?gc=1", func(r io.Reader) error {
			_, err := io.Copy(io.Discard, r)
			return err
		})
	}
}
