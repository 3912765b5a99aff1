// Package nodetest runs a hub in the process of a test. Only tests import it.
package nodetest

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/logging"
)

// Hub is a hub in the process of a test.
type Hub struct {
	node.Addresses

	Log *testkit.LockedBuffer // in JSON

	stop func() error // once
}

// Stop takes the hub down. It returns when the hub is down.
func (r *Hub) Stop(t *testing.T) {
	t.Helper()
	if err := r.stop(); err != nil {
		t.Errorf("the hub ends with %v", err)
	}
}

// Start runs a hub on free ports of loopback until Stop or the end of the test. It is the only hub.
// Clients need no token, and backends no secret. change may alter its configuration.
func Start(t *testing.T, change func(*node.Config)) *Hub {
	t.Helper()
	plan := testPlan(t)
	if change != nil {
		change(&plan)
	}
	r := &Hub{Log: &testkit.LockedBuffer{}}
	plan.Log = logging.Open(r.Log, logging.Format{})
	ready, ended := make(chan node.Addresses, 1), make(chan error, 1)
	plan.Ready = func(a node.Addresses) { ready <- a }
	ctx, cancel := context.WithCancel(context.Background())
	p, err := node.New(ctx, plan)
	if err != nil {
		t.Fatalf("the hub does not start: %v", err)
	}
	go func() {
		defer plan.Log.Close()
		ended <- p.Run(ctx)
	}()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		r.Stop(t)
		http.DefaultClient.CloseIdleConnections()
	})
	select {
	case r.Addresses = <-ready:
	case err := <-ended:
		ended <- err
		t.Fatalf("the hub does not start: %v", err)
	}
	return r
}

// testPlan returns the configuration of a hub without secrets on free ports of loopback.
func testPlan(t *testing.T) node.Config {
	t.Helper()
	plan := node.DefaultConfig()
	plan.Drain = node.DrainConfig{} // or each stop would take the delay
	plan.Hub.Name, plan.Hub.Version = "test", build.Version()
	plan.ListenClients, plan.ListenControl, plan.ListenOps = "127.0.0.1:0", "127.0.0.1:0",
		"127.0.0.1:0"
	plan.LoopbackOnly, plan.Anonymous, plan.InsecureControl, plan.Page = true, true, true, true
	key, err := auth.NewTokenKey([]byte(testkit.SomeKey))
	if err != nil {
		t.Fatal(err)
	}
	plan.TokenKeys = []*auth.TokenKey{key}
	if err := plan.ShareFiles(); err != nil {
		t.Fatal(err)
	}
	return plan
}
