package discovery

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryLossHasALabel(t *testing.T) {
	t.Parallel()
	for l := loss(1); l < lossEnd; l++ {
		if l.String() == "" {
			t.Errorf("loss %d has none", l)
		}
	}
}

func TestRetriesAreSpacedOutButNeverFar(t *testing.T) {
	t.Parallel()
	var b backoff
	if d := b.nextDelay(); d > firstRetry {
		t.Errorf("the first after %v", d)
	}
	for range 100 {
		if d := b.nextDelay(); d < firstRetry/2 || d >= lastRetry {
			t.Fatalf("one after %v", d)
		}
	}
	if b.next != lastRetry {
		t.Errorf("they grow to %v", b.next)
	}
	b.reset()
	if d := b.nextDelay(); d > firstRetry {
		t.Errorf("the first after a reset after %v", d)
	}
}

func TestHearingCountsFromTheLastAnswer(t *testing.T) {
	t.Parallel()
	h := newFreshness()
	h.start = h.start.Add(-time.Hour)
	if s := h.staleFor(); s < time.Hour {
		t.Errorf("stale for %v before any answer", s)
	}
	h.markAnswered()
	if s := h.staleFor(); s != 0 {
		t.Errorf("stale for %v while live", s)
	}
	h.markLost()
	if s := h.staleFor(); s <= 0 || s > time.Minute {
		t.Errorf("stale for %v after the loss", s)
	}
}

func TestAMemberSurvivesItsCode(t *testing.T) {
	t.Parallel()
	m := Member{
		ID: "abcd2345", Name: "hub-0", Zone: "eu-1a", Version: "v1.2.3",
		ControlAddress: "10.0.0.1:9090",
		Started:        time.Date(2026, 2, 3, 4, 5, 6, 7, time.FixedZone("", 3600)),
	}
	value, err := encodeMember(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMember(m.ID, []byte(value))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func FuzzDecodeMember(f *testing.F) {
	for _, seed := range []string{
		`{"id":"a","control_address":"127.0.0.1:1"}`,
		`{"id":"a","control_address":"[::1]:1","generation":-1,` +
			`"started":"2026-02-03T04:05:06.7+01:00","new":[{}]}`,
		`{"ID":"a","id":"b"}`, `{"id":"a","started":"9999-12-31T23:59:59-23:59"}`, "null", "[]", "",
		"\xff",
		`{"id":"a","name":"` + strings.Repeat("x", maxMember) + `"}`,
	} {
		f.Add("a", []byte(seed))
	}
	f.Fuzz(func(t *testing.T, id string, value []byte) {
		m, err := decodeMember(id, value)
		if err != nil {
			return
		}
		if m.ID != id || !validID(id) || m.ControlAddress == "" || !json.Valid(value) ||
			len(value) > maxMember {
			t.Fatalf("%q was taken for %+v", value, m)
		}
		again, err := encodeMember(m)
		if err != nil {
			t.Fatalf("%+v can be read and not written: %v", m, err)
		}
		got, err := decodeMember(id, []byte(again))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, got); d != "" {
			t.Fatalf("(-first +again):\n%s", d)
		}
	})
}
