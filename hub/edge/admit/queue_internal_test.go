package admit

import (
	"testing"
	"testing/synctest"
	"time"
)

// A client may go away at the moment of its turn. Then its token is that of the next client.
func TestAClientThatGoesAwayAtItsTurnGivesTheTokenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := New(Config{Rate: 1, Most: 10})
		if err != nil {
			t.Fatal(err)
		}
		var places [3]*place
		for i := range places {
			if places[i], err = q.enter(Connect); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		<-places[1].decided
		q.leave(places[1])
		select {
		case <-places[2].decided:
		default:
			t.Error("the next client waits for a second token")
		}
	})
}

// BenchmarkAdmit measures the cost of the rate to a client that is not held.
func BenchmarkAdmit(b *testing.B) {
	q, err := New(Config{Rate: 5000, Most: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		q.full = 0 // all tokens are there
		if err := q.Admit(b.Context(), Connect, nil); err != nil {
			b.Fatal(err)
		}
	}
}
