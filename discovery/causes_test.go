package discovery

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestEachCauseIsLoggedOnceAMinuteByItsText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := fmt.Errorf("get lease: %w", translateError(rpctypes.ErrGRPCNoSpace))
		away := errors.New("read tcp 127.0.0.1:4242->127.0.0.1:2379: connection reset by peer")
		awayAgain := errors.New("read tcp 127.0.0.1:4243->127.0.0.1:2379: EOF")
		silent := fmt.Errorf("renew lease: %w", context.DeadlineExceeded)
		var c causes
		for i, step := range []struct {
			after  time.Duration
			err    error
			say    bool
			unsaid int
		}{
			{0, away, true, 0},
			{time.Second, awayAgain, false, 0},
			{time.Second, full, true, 0},
			{time.Second, away, false, 0},
			{time.Second, full, false, 0},
			{time.Second, silent, true, 0},
			{time.Minute, full, true, 2},
			{time.Second, full, false, 0},
			{time.Second, away, true, 3},
		} {
			time.Sleep(step.after) // the bubble's clock
			if unsaid, say := c.countFailure(step.err); say != step.say || unsaid != step.unsaid {
				t.Errorf("step %d, %v: %t with %d, want %t with %d", i, step.err, say, unsaid,
					step.say, step.unsaid)
			}
		}
		c.reset()
		if unsaid, say := c.countFailure(full); !say || unsaid != 0 {
			t.Error("what an outage said counts in the next one")
		}
	})
}
