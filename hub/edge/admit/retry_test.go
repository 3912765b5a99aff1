package admit_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub/edge/admit"
)

func TestJitterIsUniformAroundATime(t *testing.T) {
	const middle, draws = 10 * time.Second, 10_000
	var sum time.Duration
	seconds := make(map[time.Duration]int)
	for range draws {
		d := admit.Jitter(middle)
		if d < middle/2 || d >= middle+middle/2 {
			t.Fatalf("%v, want around %v", d, middle)
		}
		sum += d
		seconds[d.Truncate(time.Second)]++
	}
	if mean := sum / draws; mean < 9*time.Second || mean > 11*time.Second {
		t.Errorf("the mean is %v, want %v", mean, middle)
	}
	for second := 5 * time.Second; second < 15*time.Second; second += time.Second {
		if n := seconds[second]; n < draws/20 || n > draws/5 {
			t.Errorf("%d of %d clients come in the second after %v", n, draws, second)
		}
	}
}

func TestARefusedClientComesBackBehindTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(newQueue(t, admit.Config{Rate: 10, Most: 20}))
		for id := range 30 {
			c.ask(id, admit.Connect)
		}
		for i := range 10 {
			turn := time.Duration(21+i) * 100 * time.Millisecond
			if d := c.queue.RetryAfter(); d > turn || d <= turn-2*time.Second {
				t.Errorf("client %d comes after %v, want at most 2 s before %v", i, d, turn)
			}
		}
		time.Sleep(time.Minute)
		if d := c.queue.RetryAfter(); d <= 0 || d > 100*time.Millisecond {
			t.Errorf("when queue and line are empty a client comes after %v, want 100 ms", d)
		}
		c.calls.Wait()
	})
}

// A crowd that is refused at once is told times at which no second has more clients than the rate
// allows, but for chance and the first seconds.
func TestARefusedCrowdComesBackAtTheRate(t *testing.T) {
	for name, tc := range map[string]struct{ rate, most, clients, laps int }{
		"a line":                       {100, 100, 2900, 1},
		"two lines, one after another": {100, 100, 5800, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, admit.Config{Rate: tc.rate, Most: tc.most})
				seconds := make([]int, 32)
				for range tc.clients {
					seconds[q.RetryAfter()/time.Second]++
				}
				for second, n := range seconds {
					if most := tc.laps * tc.rate * 2; n > most {
						t.Errorf("%d clients come in second %d, want at most %d: %v",
							n, second, most, seconds)
					}
				}
			})
		})
	}
}

// All clients of a hub come at once, and each comes back when it is told to. All are in at the time
// that the rate allows. Hardly a client is refused twice.
func TestACrowdIsInAtTheTimeThatTheRateAllows(t *testing.T) {
	for name, tc := range map[string]struct{ rate, most, clients int }{
		"a queue of five seconds":  {100, 1000, 2500},
		"a queue of a second":      {100, 100, 2500},
		"a line that begins again": {100, 100, 6000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(t, admit.Config{Rate: tc.rate, Most: tc.most})
				c := newCrowd(q)
				var refused, twice int
				for range tc.clients {
					c.calls.Go(func() {
						for tries := 0; ; tries++ {
							err := q.Admit(t.Context(), admit.Connect, nil)
							if err == nil {
								return
							}
							c.mu.Lock()
							if refused++; tries > 0 {
								twice++
							}
							c.mu.Unlock()
							retry := q.RetryAfter()
							time.Sleep((retry + time.Second - 1).Truncate(time.Second))
						}
					})
				}
				c.calls.Wait()
				took := time.Since(c.began)
				allowed := time.Duration(tc.clients-tc.rate) * time.Second / time.Duration(tc.rate)
				t.Logf("in after %v, the rate allows %v; %d refusals, %d of them not the first",
					took, allowed, refused, twice)
				if took > allowed*13/10 {
					t.Errorf("in after %v, want at most %v", took, allowed*13/10)
				}
				if tc.clients < 3000 && twice > tc.clients/10 {
					t.Errorf("%d clients were refused again, of %d", twice, tc.clients)
				}
			})
		})
	}
}
