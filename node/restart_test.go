package node

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node/logging"
)

// TestRestartsInARowAreFurtherAndFurtherApart plays hubs that are forgotten soon after they have
// joined the cluster.
func TestRestartsInARowAreFurtherAndFurtherApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r restarts
		play := func(lasts time.Duration) (paused time.Duration) {
			t.Helper()
			began := time.Now()
			if !r.waitPause(t.Context()) {
				t.Error("the hub is not to join")
			}
			paused = time.Since(began)
			time.Sleep(lasts)
			r.countRestart(mesh.ErrForgotten, time.Since(began))
			return paused
		}
		var got []time.Duration
		for range 11 {
			got = append(got, play(3*time.Second)/time.Second)
		}
		if want := []time.Duration{0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60}; !slices.Equal(got, want) {
			t.Errorf("the pauses were %d s, want %d", got, want)
		}
		if paused := play(restartQuiet); paused != restartPauseMost {
			t.Errorf("a pause of %v", paused)
		}
		if paused := play(0); paused != 0 {
			t.Errorf("a pause of %v after a hub that lasted", paused)
		}
		r.row = 1 << 40
		if paused := r.nextPause(); paused != restartPauseMost {
			t.Errorf("a pause of %v after many restarts", paused)
		}
	})
}

func TestRestartsOfBothKindsAreOneRow(t *testing.T) {
	var r restarts
	r.countRestart(mesh.ErrForgotten, 0)
	r.countRestart(discovery.ErrDeclaredDead, 0)
	if r.nextPause() != restartPause || r.forgotten != 1 || r.declaredDead != 1 {
		t.Errorf("%+v", r)
	}
}

func TestAPauseEndsWithTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := restarts{row: 100}
		ctx, cancel := context.WithCancel(t.Context())
		began, joins := time.Now(), make(chan bool, 1)
		go func() { joins <- r.waitPause(ctx) }()
		time.Sleep(time.Second)
		cancel()
		if <-joins || time.Since(began) != time.Second {
			t.Errorf("the pause ended after %v", time.Since(began))
		}
	})
}

// TestAHubThatPausesIsAliveAndEndsAtOnce: it does not join the cluster in the pause, and an
// orchestrator must not take it for stuck.
func TestAHubThatPausesIsAliveAndEndsAtOnce(t *testing.T) {
	t.Parallel()
	address := etcdtest.StartEtcd(t)
	plan := DefaultConfig()
	plan.Hub.Name = "pausing"
	plan.ListenClients, plan.ListenControl, plan.ListenOps = "127.0.0.1:0", "127.0.0.1:0",
		"127.0.0.1:0"
	plan.LoopbackOnly, plan.Anonymous, plan.InsecureControl = true, true, true
	if err := plan.ShareFiles(); err != nil {
		t.Fatal(err)
	}
	plan.Cluster = &ClusterConfig{
		Registry: discovery.DefaultConfig(), HashBits: mesh.DefaultConfig().HashBits,
	}
	plan.Cluster.Registry.Endpoints = []string{address}
	plan.restarts.row = 100
	ctx, cancel := context.WithCancel(t.Context())
	var out testkit.LockedBuffer
	log := logging.Open(&out, logging.Format{})
	defer log.Close()
	var end error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		plan.Log = log
		var p *Node
		if p, end = New(ctx, plan); end == nil {
			end = p.Run(ctx)
		}
	}()
	defer func() { cancel(); <-ended }()
	ops, _ := testkit.WaitForLog(t, &out, "starting")["ops"].(string)
	const why = "starting anew for time 100 in a row: joining the cluster after a pause of 1m0s"
	testkit.Eventually(t, "the hub says that it pauses", func() bool {
		g := testkit.Get(t, "http://"+ops+"/readyz", nil)
		return g.Code == 503 && strings.Contains(g.Body, why)
	})
	if g := testkit.Get(t, "http://"+ops+"/healthz", nil); g.Code != 200 {
		t.Errorf("/healthz answers %d %q", g.Code, g.Body)
	}
	listed, err := etcdtest.DialEtcd(t, address).Get(
		t.Context(), "/connhub/hubs/", clientv3.WithPrefix(), clientv3.WithCountOnly(),
	)
	if err != nil || listed.Count != 0 {
		t.Errorf("%d hubs stand in etcd, %v", listed.Count, err)
	}
	m := testkit.NewMeter()
	defer m.Stop()
	cancel()
	if !m.Within(callGrace, ended) {
		t.Fatal("the hub is still there")
	}
	if end != nil {
		t.Errorf("it ends with %v", end)
	}
}
