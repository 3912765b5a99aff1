package admit_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/edge/admit"
)

// model is a dumb queue. It lives a millisecond at a time.
type model struct {
	rate, most int

	now    int // in milliseconds
	tokens int // in thousandths
	row    int // turns of resumes in a row while a new client waited
	held   [2][]int
	since  map[int]int
	fates  map[int]fate
}

func (m *model) decide(class admit.Class, id int, err error) {
	i := slices.Index(m.held[class], id)
	m.held[class] = slices.Delete(m.held[class], i, i+1)
	m.fates[id] = fate{err, time.Duration(m.now) * time.Millisecond}
}

func (m *model) giveTurns() {
	for m.tokens >= 1000 && len(m.held[0])+len(m.held[1]) > 0 {
		m.tokens -= 1000
		class := admit.Resume
		if len(m.held[admit.Resume]) == 0 || len(m.held[admit.Connect]) > 0 && m.row == 7 {
			class, m.row = admit.Connect, 0
		} else if len(m.held[admit.Connect]) > 0 {
			m.row++
		}
		m.decide(class, m.held[class][0], nil)
	}
}

func (m *model) live(milliseconds int) {
	for range milliseconds {
		m.now++
		m.tokens = min(m.tokens+m.rate, 1000*m.rate)
		m.giveTurns()
		for class := range m.held {
			for _, id := range slices.Clone(m.held[class]) {
				if m.now-m.since[id] >= 5000 {
					m.decide(admit.Class(class), id, admit.ErrHeldTooLong)
				}
			}
		}
	}
}

func (m *model) ask(id int, class admit.Class) {
	m.held[class] = append(m.held[class], id)
	m.since[id] = m.now
	m.giveTurns()
	switch news := m.held[admit.Connect]; {
	case m.fates[id].err != nil || !slices.Contains(m.held[class], id):
	case class == admit.Resume && len(m.held[class]) > m.most-min((m.most+7)/8, m.most/2):
		m.decide(class, id, admit.ErrQueueFull)
	case len(m.held[0])+len(m.held[1]) > m.most:
		m.decide(admit.Connect, news[len(news)-1], admit.ErrQueueFull)
	}
}

// Whatever comes and goes: the queue decides as the model does, at the same time.
func TestTheQueueDecidesAsADumbQueueDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rate := rapid.SampledFrom([]int{1, 2, 4, 5, 10, 20, 50, 100}).Draw(rt, "rate")
		most := rapid.IntRange(1, 30).Draw(rt, "most")
		n := rapid.IntRange(1, 200).Draw(rt, "n")
		steps := rapid.SliceOfN(rapid.IntRange(0, 999), n, n).Draw(rt, "steps")
		var problem string
		synctest.Test(t, func(t *testing.T) {
			problem = compareWithModel(t, rate, most, steps)
		})
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

// compareWithModel takes the steps at a queue and at the model. It returns the first difference.
func compareWithModel(t *testing.T, rate, most int, steps []int) (problem string) {
	c := newCrowd(newQueue(t, admit.Config{Rate: rate, Most: most}))
	defer c.calls.Wait()
	m := &model{
		rate: rate, most: min(most, 5*rate), tokens: 1000 * rate,
		since: make(map[int]int), fates: make(map[int]fate),
	}
	for id, step := range steps {
		switch arg := step / 10; step % 10 {
		case 0, 1, 2, 3:
			m.ask(id, admit.Connect)
			c.ask(id, admit.Connect)
		case 4, 5, 6:
			m.ask(id, admit.Resume)
			c.ask(id, admit.Resume)
		case 7:
			class := admit.Class(arg % 2)
			if held := m.held[class]; len(held) > 0 {
				leaves := held[arg%len(held)]
				m.decide(class, leaves, context.Canceled)
				c.hangUp[leaves]()
			}
		case 8: // a turn, or a part of a second
			m.live(1000 / rate)
			time.Sleep(time.Second / time.Duration(rate))
		case 9:
			m.live(10 * arg)
			time.Sleep(time.Duration(10*arg) * time.Millisecond)
		}
		synctest.Wait()
		c.mu.Lock()
		same := maps.EqualFunc(m.fates, c.fates, func(a, b fate) bool {
			return errors.Is(b.err, a.err) && a.at == b.at
		})
		if !same {
			problem = fmt.Sprintf("step %d: the model has %v, the queue %v", id, m.fates, c.fates)
		}
		c.mu.Unlock()
		if !same {
			return problem
		}
	}
	return ""
}
