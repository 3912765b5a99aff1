package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
)

func TestEachPartOfATargetReachesItsConnections(t *testing.T) {
	h := newHub(t)
	ann1 := connect(t, h, "ann", "blue")
	ann2 := connect(t, h, "ann")
	bob := connect(t, h, "bob", "blue", "red")
	nobody := connect(t, h, "")

	for _, tc := range []struct {
		name   string
		target Target
		want   map[*client]string // route, or "" for nothing
	}{
		{"connection", Target{
			Connections: []string{string(ann1.ID())},
		}, map[*client]string{ann1: "c:"}},
		{"user", Target{Users: []string{"ann"}}, map[*client]string{ann1: "u:", ann2: "u:"}},
		{"group", Target{Groups: []string{"blue"}}, map[*client]string{
			ann1: "gblue:", bob: "gblue:",
		}},
		{"everyone", Target{Everyone: true}, map[*client]string{
			ann1: "e:", ann2: "e:", bob: "e:", nobody: "e:",
		}},
		{"first match wins", Target{
			Connections: []string{string(ann1.ID())}, Users: []string{"ann"},
			Groups: []string{"red", "blue"}, Everyone: true,
		}, map[*client]string{ann1: "c:", ann2: "u:", bob: "gred:", nobody: "e:"}},
		{"names twice", Target{
			Users: []string{"ann", "ann"},
		}, map[*client]string{ann1: "u:", ann2: "u:"}},
		{"except always wins", Target{
			Connections: []string{string(ann1.ID())}, Everyone: true,
			Except: Exclusion{Connections: []string{string(ann1.ID())}, Users: []string{"bob"}},
		}, map[*client]string{ann2: "e:", nobody: "e:"}},
		{
			"except a group",
			Target{Users: []string{"ann", "bob"}, Except: Exclusion{Groups: []string{"red"}}},
			map[*client]string{ann1: "u:", ann2: "u:"},
		},
		{"nobody", Target{
			Users: []string{"eve"}, Groups: []string{"none"}, Connections: []string{"x"},
		}, nil},
		{"empty", Target{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := map[*client]int{}
			all := []*client{ann1, ann2, bob, nobody}
			for _, c := range all {
				before[c] = len(c.link.frames())
			}
			r := send(t, h, &Send{Message: text("hi"), Target: tc.target}).Receipt()
			if r.Matched != len(tc.want) || r.Written != len(tc.want) || sum(t, r) != 0 {
				t.Errorf("receipt %+v, want %d matched and written", r, len(tc.want))
			}
			for i, c := range all {
				var want []string
				if route, ok := tc.want[c]; ok {
					want = []string{route + "hi"}
				}
				if diff := cmp.Diff(want, c.link.frames()[before[c]:], equateEmpty); diff != "" {
					t.Errorf("client %d: %s", i, diff)
				}
			}
		})
	}
}

var equateEmpty = cmp.Transformer("empty", func(s []string) []string {
	if len(s) == 0 {
		return nil
	}
	return append([]string{""}, s...)
})

func TestNamespacesAreIsolated(t *testing.T) {
	h := newHub(t)
	c := connect(t, h, "ann", "blue")
	target := Target{
		Connections: []string{string(c.ID())},
		Users:       []string{"ann"}, Groups: []string{"blue"}, Everyone: true,
	}
	m := text("hi")
	m.Namespace = "other"
	if r := send(t, h, &Send{Message: m, Target: target}).Receipt(); r.Matched != 0 {
		t.Errorf("matched %d in another namespace", r.Matched)
	}
	if _, err := h.Connection("other", string(c.ID())); !errors.Is(err, ErrConnectionNotFound) {
		t.Errorf("Connection in another namespace: %v", err)
	}
	if r, _ := h.Join(t.Context(), "other", &target, []string{"red"}); r.Matched != 0 {
		t.Errorf("joined %d in another namespace", r.Matched)
	}
	if r, _ := h.CloseConnections(
		t.Context(), "other", &target, cause.Backend.CloseStatus(), 0,
	); r.Matched != 0 {
		t.Errorf("closed %d in another namespace", r.Matched)
	}
}

func TestDetailNamesWhatMatchedNobody(t *testing.T) {
	h := newHub(t)
	c := connect(t, h, "ann", "blue")
	r := send(t, h, &Send{Message: text("hi"), Detail: true, Target: Target{
		Connections: []string{string(c.ID()), "nope"}, Users: []string{"eve", "ann"},
		Groups: []string{"red", "blue"},
		Except: Exclusion{Users: []string{"ann"}},
	}}).Receipt()
	want := &Unmatched{
		Connections: []string{"nope"}, Users: []string{"eve"}, Groups: []string{"red"},
	}
	if diff := cmp.Diff(want, r.Unmatched); diff != "" || r.Matched != 0 {
		t.Errorf("matched %d: %s", r.Matched, diff)
	}
}

func TestAMessageIsEncodedOncePerProtocolAndRoute(t *testing.T) {
	h := newHub(t)
	p := &counting{}
	for range 100 {
		connectAs(t, h, p, "", "blue", "red")
	}
	send(t, h, toGroup("blue", "hi"))
	if p.encoded != 1 {
		t.Errorf("encoded %d times for 100 connections, want once", p.encoded)
	}
}

type counting struct {
	routed
	encoded int
}

func (c *counting) Encode(m *Message, r Route) []byte { c.encoded++; return c.routed.Encode(m, r) }

func TestASendBeforeTheLinkWaitsForIt(t *testing.T) {
	h := newHub(t)
	c, err := h.Attach(
		t.Context(), Admission{Namespace: DefaultNamespace, User: "ann", Protocol: bare{}},
	)
	if err != nil {
		t.Fatal(err)
	}
	d := send(t, h, &Send{Message: text("early"), Target: Target{Users: []string{"ann"}}})
	if r := d.Receipt(); r.Queued != 1 || sum(t, r) != 0 {
		t.Errorf("before the link: %+v, want queued", r)
	}
	cl := &client{Connection: c}
	cl.bind(t)
	if r := d.Receipt(); r.Written != 1 || r.NotAckable != 1 || sum(t, r) != 0 {
		t.Errorf("after the link: %+v, want written", r)
	}
	if diff := cmp.Diff([]string{"early"}, cl.link.frames()); diff != "" {
		t.Error(diff)
	}
}

func TestReceiptFollowsTheMessage(t *testing.T) {
	h := newHub(t)
	fast, slow := connect(t, h, "", "g"), connect(t, h, "", "g")
	numberedOne := connectAs(t, h, numbered{}, "", "g")
	gone := connect(t, h, "", "g")
	slow.link.stall(true)
	gone.link.stall(true)
	d := send(t, h, toGroup("g", "hi"))

	check := func(step string, want Receipt) {
		t.Helper()
		got := d.Receipt()
		sum(t, got)
		want.MessageID = got.MessageID
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", step, diff)
		}
	}
	check("pushed", Receipt{Matched: 4, Queued: 2, Written: 2, NotAckable: 1})
	gone.Close(cause.Backend.CloseStatus())
	check("closed", Receipt{
		Matched: 4, Queued: 1, Written: 2,
		NotAckable: 1, Dropped: []DropCount{{cause.DropClosed, 1}},
	})
	if err := numberedOne.Ack(1); err != nil {
		t.Fatal(err)
	}
	check("acked", Receipt{
		Matched: 4, Queued: 1, Written: 1,
		Acked: 1, NotAckable: 1, Dropped: []DropCount{{cause.DropClosed, 1}},
	})
	slow.link.stall(false)
	check("written", Receipt{
		Matched: 4, Written: 2,
		Acked: 1, NotAckable: 2, Dropped: []DropCount{{cause.DropClosed, 1}},
	})
	fast.Close(cause.Backend.CloseStatus())
	check("after a close", Receipt{
		Matched: 4, Written: 2,
		Acked: 1, NotAckable: 2, Dropped: []DropCount{{cause.DropClosed, 1}},
	})
}

func TestWaitEndsWhenReachedOrWhenTheContextDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c := connectAs(t, h, numbered{}, "", "g")
		c.link.stall(true)
		start := time.Now()
		wait := func(w Wait) time.Duration {
			s := toGroup("g", "hi")
			s.Wait = w
			d := send(t, h, s)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			d.Wait(ctx)
			return time.Since(begin)
		}
		if d := wait(WaitNone) + wait(WaitQueued); d != 0 {
			t.Errorf("NONE and QUEUED waited %v", d)
		}
		if d := wait(WaitWritten); d != time.Minute {
			t.Errorf("WRITTEN on a stalled link waited %v, want the whole context", d)
		}
		time.AfterFunc(time.Second, func() { c.link.stall(false) })
		if d := wait(WaitWritten); d != time.Second {
			t.Errorf("WRITTEN waited %v, want until the link went on", d)
		}
		time.AfterFunc(2*time.Second, func() {
			if err := c.Ack(5); err != nil {
				t.Error(err)
			}
		})
		if d := wait(WaitAcked); d != 2*time.Second {
			t.Errorf("ACKED waited %v, want until the ack", d)
		}
		time.AfterFunc(3*time.Second, func() { c.Close(cause.Backend.CloseStatus()) })
		if d := wait(WaitAcked); d != 3*time.Second {
			t.Errorf("ACKED waited %v, want until the close", d)
		}
		t.Logf("%v of simulated time", time.Since(start))
	})
}

func TestARequestIDIsDeliveredOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t)
		c := connect(t, h, "ann")
		request := func(caller, id string, hash byte) (*Delivery, error) {
			return h.Deliver(t.Context(), &Send{
				Message: text("hi"), Target: Target{Users: []string{"ann"}},
				Caller: caller, RequestID: id, RequestHash: [32]byte{hash},
			})
		}
		first, err := request("a", "1", 1)
		if err != nil {
			t.Fatal(err)
		}
		again, err := request("a", "1", 1)
		if err != nil || !again.Receipt().Duplicate || first.Receipt().Duplicate {
			t.Errorf("again: %v, %+v", err, again.Receipt())
		}
		if got, want := again.Receipt().MessageID, first.Receipt().MessageID; got != want {
			t.Errorf("the duplicate's receipt is of message %q, want %q", got, want)
		}
		if _, err := request("a", "1", 2); !errors.Is(err, ErrRequestIDReused) {
			t.Errorf("the same id for another request: %v", err)
		}
		for _, other := range []func() (*Delivery, error){
			func() (*Delivery, error) { return request("b", "1", 1) },
			func() (*Delivery, error) { return request("a", "2", 1) },
			// synctest: no time passes
			func() (*Delivery, error) {
				time.Sleep(fairshare.RequestMemory)
				return request("a", "1", 1)
			},
		} {
			if d, err := other(); err != nil || d.Receipt().Duplicate {
				t.Errorf("a request that is new: %v", err)
			}
		}
		if got := len(c.link.frames()); got != 4 {
			t.Errorf("client got %d messages, want 4", got)
		}
	})
}

type panicking struct{ bare }

func (panicking) Encode(*Message, Route) []byte { panic("encode") }

func TestARequestThatPanickedIsNotRemembered(t *testing.T) {
	h := newHub(t)
	bad := connectAs(t, h, panicking{}, "ann")
	request := func() (d *Delivery, failed any) {
		defer func() { failed = recover() }()
		return send(t, h, &Send{
			Message: text("hi"), Target: Target{Users: []string{"ann"}}, RequestID: "1",
		}), nil
	}
	if _, failed := request(); failed == nil {
		t.Fatal("the protocol did not panic")
	}
	bad.Close(cause.Backend.CloseStatus())
	connect(t, h, "ann")
	if d, _ := request(); d.Receipt().Duplicate || d.Receipt().Written != 1 {
		t.Errorf("the retry: %+v", d.Receipt())
	}
}
