package process

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// linesPerSecond are the lines of a cause that the log writes in a second.
const linesPerSecond = 20

// flood has eight strangers at a time do something so often.
func flood(times int, do func()) {
	var strangers sync.WaitGroup
	turns := make(chan struct{})
	for range 8 {
		strangers.Go(func() {
			for range turns {
				do()
			}
		})
	}
	for range times {
		turns <- struct{}{}
	}
	close(turns)
	strangers.Wait()
}

// requireFewLines ends a hub after a flood that began some time ago, and proves that its log has a
// line for each cause and second beyond the rate, that nothing is left uncounted, and that no line
// is long.
func requireFewLines(t *testing.T, p *bed.Process, began time.Time, times int) {
	t.Helper()
	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, 20*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	const most = 3 << 10        // of a line: a stranger's text, and ours
	counted := map[string]int{} // by message: a client that the shutdown meets has that cause
	written := map[string]int{} // by message and cause
	for line := range strings.Lines(p.Log.String()) {
		if len(line) > most && !strings.Contains(line, "effective configuration") {
			t.Errorf("a line of %d bytes: %.200s", len(line), line)
		}
		var l struct {
			Msg, Cause, Reason string
			More               int
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if strings.HasPrefix(l.Msg, "http: TLS handshake error") {
			l.Msg = "TLS"
		}
		key := l.Msg + " " + l.Cause
		if l.Cause == "" {
			key = l.Msg + " " + l.Reason
		}
		counted[l.Msg] += max(1, l.More)
		written[key]++
	}
	windows := int(math.Ceil(time.Since(began).Seconds())) + 1
	for key := range written {
		if limit := windows * (linesPerSecond + 1); written[key] > limit {
			t.Errorf("%d lines %q, want at most %d", written[key], key, limit)
		}
	}
	if accounted := slices.Max(slices.Collect(maps.Values(counted))); accounted < times {
		t.Errorf("none of %v accounts for all %d", counted, times)
	}
}

func TestFloodsCostALineACauseAndSecond(t *testing.T) {
	t.Parallel()
	const times = 1000
	certFile, keyFile := testkit.WriteCertificate(t, t.TempDir(), "hub")
	dialer := &net.Dialer{}
	for name, tt := range map[string]struct {
		args []string
		do   func(p *bed.Process) error
	}{
		"clients that come and close with a reason of their own": {
			bed.InsecureArgs(),
			func(p *bed.Process) error {
				conn, _, err := websocket.Dial(t.Context(), "ws://"+p.Clients+"/ws", nil)
				if err == nil {
					err = conn.Close(4000, strings.Repeat("\x01", 120))
				}
				return err
			},
		},
		"requests that are refused": {bed.InsecureArgs(
			"--log-level=debug",
		), func(p *bed.Process) error {
			request, err := http.NewRequestWithContext(t.Context(),
				http.MethodGet, "http://"+p.Clients+"/client/"+strings.Repeat("%01x", 2<<10), nil)
			if err != nil {
				return err
			}
			response, err := http.DefaultClient.Do(request)
			if err == nil {
				_ = response.Body.Close()
			}
			return err
		}},
		"sockets that don't speak TLS": {bed.ServeArgs(
			t, "--log-level=debug", "--tls-cert-file="+certFile, "--tls-key-file="+keyFile,
		), func(p *bed.Process) error {
			conn, err := dialer.DialContext(t.Context(), "tcp", p.Clients)
			if err == nil {
				_, _ = conn.Write([]byte("nonsense, and more of it\r\n\r\n"))
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}
			return err
		}},
		"TLS that can't be agreed on": {bed.ServeArgs(
			t, "--log-level=debug", "--tls-cert-file="+certFile, "--tls-key-file="+keyFile,
		), func(p *bed.Process) error {
			dialer := tls.Dialer{Config: &tls.Config{
				MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11,
				InsecureSkipVerify: true,
			}}
			// to be refused
			conn, err := dialer.DialContext(t.Context(), "tcp", p.Clients)
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := bed.StartReady(t, tt.args...)
			began := time.Now()
			flood(times, func() {
				if err := tt.do(p); err != nil {
					t.Error(err)
				}
			})
			requireFewLines(t, p, began, times)
		})
	}
}
