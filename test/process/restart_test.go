package process

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

func TestASecondRestartInARowPauses(t *testing.T) {
	t.Parallel()
	address := etcdtest.StartEtcd(t)
	p := bed.StartReady(t, bed.MemberArgs(address)...)
	id, _ := testkit.WaitForLog(t, p.Log, "ready")["hub"].(string)
	for _, pause := range []time.Duration{0, time.Second} {
		declareDead(t, p, address, id)
		var anew, joined time.Time
		testkit.Eventually(t, "the next hub is ready", func() bool {
			for line := range strings.Lines(p.Log.String()) {
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
	if metrics := testkit.Get(t, "http://"+p.Ops+"/metrics", nil).Body; !strings.Contains(
		metrics, `connhub_restarts_total{reason="declared_dead"} 2`,
	) {
		t.Error("the metrics don't count both")
	}
}
