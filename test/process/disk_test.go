//go:build unix

package process

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// A disk that is full ends the etcd inside the process. A bound for the size of files does the same
// to it.
func TestAFullDiskUnderDevEndsItInOrder(t *testing.T) {
	t.Parallel() // its shutdown waits for an etcd that does not answer
	// of 512 bytes: etcd's log is 64 MiB from the beginning, its database grows
	const blocks = 140_000
	p := bed.StartCommand(t, bed.Shell(
		t, fmt.Sprintf("ulimit -f %d;", blocks), bed.DevArgs(t, "--log-format=json")...,
	))
	p.Await(t, p.Ready)
	ann := testkit.DialClient(t, p.Clients, "user=ann")
	at, _ := testkit.WaitForLog(t, p.Log, "starting")["etcd"].(string)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-p.Ended // by the end of the test
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
	if code := p.ExitCode(t, 20*time.Second); code != terminal.ExitError {
		t.Errorf("exit code %d, want %d", code, terminal.ExitError)
	}
	if text := p.Log.String(); full == nil || !strings.Contains(
		text, "the etcd in this process can't go on",
	) {
		t.Errorf("etcd says %v; the log:\n%s", full, text)
	}
}
