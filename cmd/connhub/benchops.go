package main

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

	"github.com/connhub/connhub/internal/loopback"
)

const (
	// opsTimeout is for one request to the operations of a hub: collecting the garbage of a large one takes its time.
	opsTimeout = 10 * time.Second
	// opsShare is how much of the connections must be seen at the hubs whose operations are asked, or they are not those
	// that have the load. Others may come and go meanwhile.
	opsShare = 0.9
)

// benchOps asks hubs for what they use.
type benchOps struct {
	urls    []string
	guessed bool
	secret  string
	http    *http.Client
	unknown string // why nothing can be told; empty: it can
}

// opsSample is what hubs used until a moment, together.
type opsSample struct {
	cpu         float64 // seconds
	memory      int64   // bytes of the processes in memory
	heap        int64   // bytes in use of it: Go's heap and stacks
	connections int64
	unknown     string // why not
}

// newBenchOps asks those of --ops-url, otherwise the one at the default address of a hub on this machine.
func newBenchOps(f *benchFlags) *benchOps {
	o := &benchOps{urls: f.OpsURL, http: &http.Client{Timeout: opsTimeout, Transport: &http.Transport{}}}
	if len(o.urls) == 0 {
		o.guessed = true
		o.urls = []string{"http://" + defaultListenOps}
		if host, _, err := net.SplitHostPort(f.Addr); err != nil || !loopback.IsHost(host) {
			o.unknown = "no --ops-url was given"
		}
	}
	if f.OpsSecret != "" {
		secret, err := readSecret(f.OpsSecret)
		if err != nil {
			o.unknown = strings.Replace(err.Error(), "--secret-file", "--ops-secret-file", 1)
		}
		o.secret = secret
	}
	return o
}

// takeSample asks all of them.
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

// unknownWords say why nothing is known.
func (o *benchOps) unknownWords(base string, err error) string {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		err = errors.New(dialWords(failed.Err))
	}
	text := fmt.Sprintf("%s: %v", base, err)
	if o.guessed {
		text += " (--ops-url names another address)"
	}
	return makePrintable(text)
}

// getPath asks one of them and has read look at the answer.
func (o *benchOps) getPath(ctx context.Context, base, path string, read func(io.Reader) error) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/metrics")+path, http.NoBody)
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

// addMetrics adds the metrics of a hub (Prometheus' text format).
func (s *opsSample) addMetrics(r io.Reader) error {
	lines, found := bufio.NewScanner(r), false
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			continue // a comment, or a label with a blank, which none of these has
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

// checkLoad finds out whether the load is on those that are asked.
func (o *benchOps) checkLoad(before, after opsSample, connections int) {
	seen := after.connections - before.connections
	if o.unknown == "" && before.unknown == "" && after.unknown == "" && float64(seen) < opsShare*float64(connections) {
		o.unknown = fmt.Sprintf("%s saw %s of %s connections come: name all hubs with --ops-url",
			strings.Join(o.urls, ", "), groupDigits(max(seen, 0)), groupDigits(connections))
	}
}

// collectGarbage has them collect their garbage, so that memory is what is in use.
func (o *benchOps) collectGarbage(ctx context.Context) {
	if o.unknown != "" {
		return
	}
	defer o.http.CloseIdleConnections()
	for _, base := range o.urls {
		_ = o.getPath(ctx, base, "/debug/pprof/heap?gc=1", func(r io.Reader) error { // without it the figure is larger
			_, err := io.Copy(io.Discard, r)
			return err
		})
	}
}
