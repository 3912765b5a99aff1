package moving

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
)

// TestACallThatMayReturnIsNotAnsweredBefore: the origin would take an answer at the send's time for
// the last, and would not send the call again. A part that waits for a client then waits no longer
// than the send allows.
func TestACallThatMayReturnIsNotAnsweredBefore(t *testing.T) {
	for _, mayReturn := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			due := began.Add(time.Second)
			acked := AwaitedFunc(func(func()) func() { return func() {} }) // never
			x := &execution{began: began}
			x.addPart(Execution{Awaited: acked, Until: due}, []hub.ConnectionID{"a.b"})
			x.delayAnswer(mayReturn)
			whole := x.wholeCall()
			if waits := whole.Until.After(due); waits != mayReturn {
				t.Errorf("may return %t: answered after %v", mayReturn, whole.Until.Sub(began))
			}
			over := make(chan time.Time, 1)
			stop := whole.Awaited.Then(func() { over <- time.Now() })
			defer stop()
			time.Sleep(10 * time.Millisecond) // of the bubble's clock
			x.completeParts(nil)
			if at := <-over; !at.Equal(due) {
				t.Errorf("the part is over after %v", at.Sub(began))
			}
		})
	}
}
