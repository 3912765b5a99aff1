//go:build unix

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	"github.com/connhub/connhub/internal/testkit"
)

// A disk that is full ends the etcd inside the process. A bound for the size of files does the same
// to it.
func TestAFullDiskUnderDevEndsItInOrder(t *testing.T) {
	t.Parallel() // its shutdown waits for an etcd that does not answer
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// of 512 bytes: etcd's log is 64 MiB from the beginning, its database grows
	const blocks = 140_000
	p := launchCommand(t, exec.CommandContext(context.Background(), "sh", "-c", fmt.Sprintf(
		`ulimit -f %d; exec "$0" "$@"`, blocks,
	), path,
		"dev", "--listen-clients=127.0.0.1:0", "--listen-control=127.0.0.1:0",
		"--listen-ops=127.0.0.1:0",
		"--etcd-listen=127.0.0.1:0", "--data-dir="+t.TempDir(), "--log-format=json"))
	_ = testkit.WaitForLog(t, p.log, "ready")
	ann := testkit.DialClient(t, p.Clients, "user=ann")
	at, _ := testkit.WaitForLog(t, p.log, "starting")["etcd"].(string)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-p.ended // by the end of the test
		cancel()
	}()
	client := etcdtest.DialEtcd(t, at)
	var full error
	for n := 0; full == nil && n < 200; n++ {
		_, full = client.Put(ctx, fmt.Sprint("/filler/", n), strings.Repeat("x", 1<<20))
	}
	if _, _, err := ann.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("its client sees %v", err)
	}
	if code := p.exitCode(t, 20*time.Second); code != terminal.ExitError {
		t.Errorf("exit code %d, want %d", code, terminal.ExitError)
	}
	if text := p.log.String(); full == nil || !strings.Contains(
		text, "the etcd in this process can't go on",
	) {
		t.Errorf("etcd says %v; the log:\n%s", full, text)
	}
}
