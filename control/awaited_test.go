package control

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// promised is a sending that other hubs are through with when the test says so.
type promised struct {
	done func()
	soon bool // they are through at once
}

func (p *promised) Receipt(context.Context) (*controlv1.Receipt, error) { return nil, nil }
func (p *promised) waits() (time.Time, bool)                            { return time.Time{}, true }
func (p *promised) then(done func()) {
	p.done = done
	if p.soon {
		done()
	}
}

// TestEachAwaitedSendIsAnsweredOnce: when the other hubs are through, or when it is due, or at the end, whichever is first.
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
			tell := make(chan int64, 2*len(plans))
			a := newAwaited(func(s *awaitedSend) { tell <- s.sequence })
			ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
			ended := time.AfterFunc(ms(end), a.end)
			defer ended.Stop()
			go func() {
				for i, p := range plans {
					time.Sleep(time.Until(began.Add(ms(p.begins))))
					s := &promised{soon: p.takes == 0}
					a.add(&begun{sequence: int64(i)}, s, time.Now().Add(ms(p.due)))
					if p.takes > 0 {
						time.AfterFunc(ms(p.takes), s.done)
					}
				}
			}()
			for range 100 {
				synctest.Wait()
				for len(tell) > 0 {
					i := <-tell
					answered[i] = append(answered[i], int(time.Since(began)/time.Millisecond))
				}
				time.Sleep(time.Millisecond)
			}
			for i, p := range plans {
				want := p.begins + p.due
				if p.takes >= 0 {
					want = min(want, p.begins+p.takes)
				}
				want = max(p.begins, min(want, end))
				if got := answered[int64(i)]; !slices.Equal(got, []int{want}) {
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
