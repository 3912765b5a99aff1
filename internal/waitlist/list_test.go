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

// promise is a wait that ends when the test says so.
type promise struct {
	done    func()
	soon    bool // it ends at once
	stopped atomic.Int32
}

func (p *promise) then(done func()) (stop func()) {
	p.done = done
	if p.soon {
		done()
	}
	return func() { p.stopped.Add(1) }
}

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

// TestEachWaitArrivesOnce: when it is told, or at its deadline, whichever is first. After the end none arrives, and
// nothing goes on for one.
func TestEachWaitArrivesOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type plan struct{ begins, takes, due int } // in ms; due and takes count from the beginning
		plans := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) plan {
			return plan{rapid.IntRange(0, 20).Draw(rt, "begins"), rapid.IntRange(-1, 20).Draw(rt, "takes"), rapid.IntRange(0, 20).Draw(rt, "due")}
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
					of := &promise{soon: p.takes == 0}
					promises[i] = of
					l.Add(i, time.Now().Add(ms(p.due)), of.then)
					if p.takes > 0 && of.done != nil { // it was not too late
						time.AfterFunc(ms(p.takes), of.done)
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
				if want == end && len(got) == 0 { // both at once
					continue
				}
				if want > end && len(got) == 0 && (p.begins >= end || stopped == 1) {
					continue
				}
				if !slices.Equal(got, []int{want}) || want > end {
					problem = "a wait did not arrive once, in time"
					t.Logf("wait %d (%+v) of %+v, end %d: arrived at %v, want %d", i, p, plans, end, got, want)
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// BenchmarkExpire has waits whose deadlines are all different come to their ends, one after the other.
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
			l.Add(i, began.Add(time.Duration(i)*time.Microsecond), func(func()) func() { return func() {} })
		}
		for n := 0; n < waits; n += len(l.TakeArrived()) {
			<-over
		}
	}
}
