package waitlist

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// promise is the work that a wait is for. The test ends it.
type promise struct {
	done    func()
	soon    bool         // it ends at its start
	stopped atomic.Int32 // calls of stop
}

func (p *promise) start(done func()) (stop func()) {
	p.done = done
	if p.soon {
		done()
	}
	return func() { p.stopped.Add(1) }
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// TestEachWaitArrivesOnce holds that each wait arrives once: at its done or at its deadline,
// whichever comes first. After End no wait arrives, and the work of each is stopped.
func TestEachWaitArrivesOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		// In ms; takes and due count from begins. takes is -1 if the work never ends.
		type plan struct{ begins, takes, due int }
		plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plan {
			return plan{
				begins: rapid.IntRange(0, 20).Draw(rt, "begins"),
				takes:  rapid.IntRange(-1, 20).Draw(rt, "takes"),
				due:    rapid.IntRange(0, 20).Draw(rt, "due"),
			}
		}), 1, 20).Draw(rt, "plans")
		slices.SortFunc(plans, func(a, b plan) int { return a.begins - b.begins })
		end := rapid.IntRange(0, 50).Draw(rt, "end")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			arrived := make(map[int][]int)
			news := make(chan struct{}, 1)
			l := New[int](func() {
				select {
				case news <- struct{}{}:
				default:
				}
			})
			promises := make([]*promise, len(plans))
			ended := time.AfterFunc(ms(end), l.End)
			defer ended.Stop()
			go func() {
				for i, p := range plans {
					time.Sleep(time.Until(began.Add(ms(p.begins))))
					work := &promise{soon: p.takes == 0}
					promises[i] = work
					l.Add(i, time.Now().Add(ms(p.due)), work.start)
					if p.takes > 0 && work.done != nil { // the list had not ended
						time.AfterFunc(ms(p.takes), work.done)
					}
				}
			}()
			for range 100 {
				synctest.Wait()
				if len(news) > 0 {
					<-news
					for _, i := range l.TakeArrived() {
						arrived[i] = append(arrived[i], int(time.Since(began)/time.Millisecond))
					}
				}
				time.Sleep(time.Millisecond)
			}
			for i, p := range plans {
				want := p.begins + p.due
				if p.takes >= 0 {
					want = min(want, p.begins+p.takes)
				}
				stopped := promises[i].stopped.Load()
				got := arrived[i]
				if stopped > 1 {
					problem = "a wait was stopped more than once"
				}
				if want == end && len(got) == 0 { // End came at the same moment
					continue
				}
				if want > end && len(got) == 0 && (p.begins >= end || stopped == 1) {
					continue
				}
				if !slices.Equal(got, []int{want}) || want > end {
					problem = "a wait did not arrive once, in time"
					t.Logf("wait %d (%+v) of %+v, end %d: arrived at %v, want %d",
						i, p, plans, end, got, want)
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// BenchmarkExpire measures waits that end at deadlines which all differ.
func BenchmarkExpire(b *testing.B) {
	const waits = 16_384
	for b.Loop() {
		over := make(chan struct{}, 1)
		l := New[int](func() {
			select {
			case over <- struct{}{}:
			default:
			}
		})
		began := time.Now()
		for i := range waits {
			until := began.Add(time.Duration(i) * time.Microsecond)
			l.Add(i, until, func(func()) func() { return func() {} })
		}
		for n := 0; n < waits; n += len(l.TakeArrived()) {
			<-over
		}
	}
}
