package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/testkit"
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
	address := etcd(t)
	c, err := parse(t, memberArgs(address)...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	plan.restarts.row = 100
	ctx, cancel := context.WithCancel(t.Context())
	var out testkit.LockedBuffer
	log := openLog(&out, "json", 0)
	defer log.Close()
	var end error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		end = runServer(ctx, plan, log, nil)
	}()
	defer func() { cancel(); <-ended }()
	ops, _ := waitForLog(t, &out, "starting")["ops"].(string)
	const why = "starting anew for time 100 in a row: joining the cluster after a pause of 1m0s"
	testkit.Eventually(t, "the hub says that it pauses", func() bool {
		g := get(t, "http://"+ops+"/readyz", nil)
		return g.code == 503 && strings.Contains(g.body, why)
	})
	if g := get(t, "http://"+ops+"/healthz", nil); g.code != 200 {
		t.Errorf("/healthz answers %d %q", g.code, g.body)
	}
	listed, err := etcdClient(t, address).Get(
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

func TestASecondRestartInARowPauses(t *testing.T) {
	t.Parallel()
	address := etcd(t)
	p := startProcess(t, memberArgs(address)...)
	id, _ := waitForLog(t, p.log, "ready")["hub"].(string)
	for _, pause := range []time.Duration{0, restartPause} {
		declareDead(t, address, id)
		var anew, joined time.Time
		testkit.Eventually(t, "the next hub is ready", func() bool {
			for line := range strings.Lines(p.log.String()) {
				var l struct {
					Time                 time.Time
					Msg, Was, Hub, Pause string
				}
				if json.Unmarshal([]byte(line), &l) != nil {
					continue
				}
				switch {
				case l.Msg == "starting anew as another hub" && l.Was == id:
					if anew = l.Time; l.Pause != pause.String() {
						t.Fatalf("the log says that the pause is %s, want %v", l.Pause, pause)
					}
				case l.Msg == "ready" && anew.Before(l.Time) && !anew.IsZero():
					id, joined = l.Hub, l.Time
					return true
				}
			}
			return false
		})
		if took := joined.Sub(anew); took < pause {
			t.Errorf("ready after %v, want %v at least", took, pause)
		}
	}
	if metrics := get(t, "http://"+p.ops+"/metrics", nil).body; !strings.Contains(
		metrics, `connhub_restarts_total{reason="declared_dead"} 2`,
	) {
		t.Error("the metrics don't count both")
	}
}
