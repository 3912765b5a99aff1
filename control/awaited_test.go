package control

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// promised is a sending that is through when the test says so.
type promised struct {
	done    func()
	soon    bool // it is through at once
	until   time.Time
	stopped atomic.Bool
}

func (p *promised) Receipt(context.Context) (*controlv1.Receipt, error) { return nil, nil }
func (p *promised) dueAt() time.Time                                    { return p.until }
func (p *promised) then(done func()) (stop func()) {
	p.done = done
	if p.soon {
		done()
	}
	return func() { p.stopped.Store(true) }
}

// TestEachAwaitedSendIsAnsweredOnce: when the hubs are through, or when it is due, whichever is first. After the end none is, and
// nothing waits for one.
func TestEachAwaitedSendIsAnsweredOnce(t *testing.T) {
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
			answered := make(map[int64][]int)
			news := make(chan struct{}, 1)
			a := newAwaited(func() { signal(news) })
			sendings := make([]*promised, len(plans))
			ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
			ended := time.AfterFunc(ms(end), a.end)
			defer ended.Stop()
			go func() {
				for i, p := range plans {
					time.Sleep(time.Until(began.Add(ms(p.begins))))
					s := &promised{soon: p.takes == 0, until: time.Now().Add(ms(p.due))}
					sendings[i] = s
					a.add(&begun{sequence: int64(i)}, s)
					if p.takes > 0 && s.done != nil { // it was not too late
						time.AfterFunc(ms(p.takes), s.done)
					}
				}
			}()
			for range 100 {
				synctest.Wait()
				if len(news) > 0 {
					<-news
					for _, one := range a.takeArrived() {
						answered[one.sequence] = append(answered[one.sequence], int(time.Since(began)/time.Millisecond))
					}
				}
				time.Sleep(time.Millisecond)
			}
			for i, p := range plans {
				want := p.begins + p.due
				if p.takes >= 0 {
					want = min(want, p.begins+p.takes)
				}
				got := answered[int64(i)]
				if want == end && len(got) == 0 { // both at once
					continue
				}
				if want > end && len(got) == 0 && (p.begins >= end || sendings[i].stopped.Load()) {
					continue
				}
				if !slices.Equal(got, []int{want}) || want > end {
					problem = "a send was not answered once, in time"
					t.Logf("send %d (%+v) of %+v, end %d: answered at %v, want %d", i, p, plans, end, got, want)
				}
			}
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}
