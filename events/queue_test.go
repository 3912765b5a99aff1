package events

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

// plainQueue is a model of a queue: it looks through all of itself each time. A gap stands where
// its first message would.
type plainQueue struct {
	limits Limits
	events []Event
}

func (q *plainQueue) put(e Event) (dropped bool, err error) {
	messages, standing, bytes := 0, 0, int64(0)
	for _, w := range q.events {
		if w.isMessage() {
			messages++
			bytes += w.weight()
		} else {
			standing++
		}
	}
	full := messages+1 > q.limits.Messages || bytes+e.weight() > q.limits.Bytes
	nearly := messages+1 > q.limits.Messages-q.limits.Messages/8 ||
		bytes+e.weight() > q.limits.Bytes-q.limits.Bytes/8
	user, namespace := q.exceed(&e)
	last := messages+1 > q.limits.Messages-q.limits.Messages/16 ||
		bytes+e.weight() > q.limits.Bytes-q.limits.Bytes/16
	if e.isMessage() && (full || nearly && user || last && namespace) {
		dropped = true
		e.Missing, e.Gap, e.Message = 1, SubscriberSlow, nil
		for i, w := range slices.Backward(q.events) {
			if w.Identity.ID == e.Identity.ID {
				if w.Missing > 0 {
					q.events[i].Missing, q.events[i].Ordinal = w.Missing+1, e.Ordinal
					return true, nil
				}
				break
			}
		}
	}
	if !e.isMessage() && standing == q.limits.Standing {
		return dropped, ErrSubscriberSlow
	}
	q.events = append(q.events, e)
	return dropped, nil
}

// exceed reports whether the user and the namespace of e have more than their shares of the queue.
func (q *plainQueue) exceed(e *Event) (userDoes, namespaceDoes bool) {
	var all, namespace, user int64
	namespaces, users := map[string]bool{}, map[string]bool{}
	for _, w := range q.events {
		if !w.isMessage() {
			continue
		}
		namespaces[w.Identity.Namespace] = true
		all += w.weight()
		if w.Identity.Namespace != e.Identity.Namespace {
			continue
		}
		namespace += w.weight()
		users[w.Identity.Payer()] = true
		if w.Identity.Payer() == e.Identity.Payer() {
			user += w.weight()
		}
	}
	return user*int64(len(users)+1) > namespace, namespace*int64(len(namespaces)) > all
}

func (q *plainQueue) take(most int, bytes int64) (taken []Event) {
	for len(q.events) > 0 && most > 0 && bytes > 0 {
		most--
		bytes -= q.events[0].weight()
		taken = append(taken, q.events[0])
		q.events = q.events[1:]
	}
	return taken
}

func (e *Event) String() string {
	return fmt.Sprintf("%s %v missing %d, %d bytes", e.ID(), e.Kind, e.Missing, e.weight())
}

// identities has the connections of the tests: some share a user, some a namespace, some have no
// user.
var identities = map[hub.ConnectionID]hub.Identity{
	"a": {ID: "a", Namespace: "x", User: "ann"},
	"b": {ID: "b", Namespace: "x", User: "ann"},
	"c": {ID: "c", Namespace: "x"},
	"d": {ID: "d", Namespace: "x", RemoteAddress: "10.0.0.1:1"},
	"f": {ID: "f", Namespace: "x", RemoteAddress: "10.0.0.1:2"},
	"e": {ID: "e", Namespace: "y", User: "ann"},
}

// The clients at an address that have no user share the part of a single user, however many sockets
// they have.
func TestClientsWithoutAUserShareAQueueAsOneAtAnAddress(t *testing.T) {
	q := newQueue(Limits{Messages: 800, Bytes: 16 << 20, Standing: 1000}, &room{})
	put := func(socket int, user, host string) bool {
		dropped, err := q.putEvent(&Event{
			Kind: KindMessage, Message: &hub.ClientEvent{}, Identity: hub.Identity{
				ID: hub.ConnectionID(fmt.Sprint(socket)), Namespace: "default", User: user,
				RemoteAddress: fmt.Sprintf("%s:%d", host, socket),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return dropped == 0
	}
	queued := 0
	for i := range 900 {
		if put(i, "", "10.0.0.1") {
			queued++
		}
	}
	if queued != 700 {
		t.Errorf("%d messages of sockets without a user are queued, want 700", queued)
	}
	if !put(1, "ann", "10.0.0.1") || !put(1, "", "10.0.0.2") {
		t.Error("a user, or another address, has no room")
	}
}

// A client that sends more than a subscriber takes loses its own messages. No other client does.
func TestAClientThatFloodsASubscriberDropsItsOwnMessages(t *testing.T) {
	q := newQueue(Limits{Messages: 800, Bytes: 16 << 20, Standing: 1000}, &room{})
	put := func(namespace, user string) bool {
		dropped, err := q.putEvent(&Event{
			Kind: KindMessage, Message: &hub.ClientEvent{},
			Identity: hub.Identity{
				ID: hub.ConnectionID(namespace + user), Namespace: namespace, User: user,
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return dropped == 0
	}
	floods := 0
	for range 2000 {
		if put("default", "flood") {
			floods++
		}
	}
	others := 0
	for i := range 50 {
		if put("default", fmt.Sprint("quiet ", i)) {
			others++
		}
		if put("other", fmt.Sprint("quiet ", i)) {
			others++
		}
		if put("default", "flood") {
			t.Error("the client that floods has room while others need it")
		}
	}
	if floods != 700 || others != 75 { // the last 50 are for the namespace that has little
		t.Errorf("%d of the flood and %d of the others are queued", floods, others)
	}
	for !q.isEmpty() {
		q.takeEvents(nil, 100, 1<<40)
	}
	if q.shares != nil {
		t.Error("shares of an empty queue")
	}
}

func TestAQueueDoesWhatAPlainOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{
			Messages: rapid.IntRange(1, 40).Draw(t, "messages"),
			Bytes:    rapid.Int64Range(500, 9000).Draw(t, "bytes"),
			Standing: rapid.IntRange(1, 12).Draw(t, "standing"),
		}
		q, model := newQueue(l, &room{}), &plainQueue{limits: l}
		ordinals := map[hub.ConnectionID]uint64{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "take") == 0 {
				most := rapid.IntRange(1, 5).Draw(t, "most")
				bytes := rapid.Int64Range(1, 2000).Draw(t, "at most")
				got, want := q.takeEvents(nil, most, bytes), model.take(most, bytes)
				if fmt.Sprint(got) != fmt.Sprint(pointers(want)) {
					t.Fatalf("took %v, want %v", got, want)
				}
				continue
			}
			id := rapid.SampledFrom(slices.Sorted(maps.Keys(identities))).Draw(t, "connection")
			ordinals[id]++
			e := Event{Kind: KindConnected, Identity: identities[id], Ordinal: ordinals[id]}
			if rapid.IntRange(0, 4).Draw(t, "message") > 0 {
				e.Kind = KindMessage
				size := rapid.IntRange(0, 1000).Draw(t, "size")
				e.Message = &hub.ClientEvent{Payload: make([]byte, size)}
			}
			own := e
			dropped, err := q.putEvent(&own)
			wantDropped, wantErr := model.put(e)
			if (dropped != 0) != wantDropped || !errors.Is(err, wantErr) {
				t.Fatalf("%v: dropped %v (%v), want %v (%v)",
					&e, dropped != 0, err, wantDropped, wantErr)
			}
			if err != nil {
				return
			}
			if q.messages > l.Messages || q.bytes > l.Bytes || q.standing > l.Standing ||
				len(q.gaps) > q.standing {
				t.Fatalf("beyond %+v: %d messages, %d bytes, %d standing, %d gaps",
					l, q.messages, q.bytes, q.standing, len(q.gaps))
			}
		}
		got, want := q.takeEvents(nil, len(q.events), 1<<40), model.take(len(model.events), 1<<40)
		if fmt.Sprint(got) != fmt.Sprint(pointers(want)) {
			t.Fatalf("the rest is %v, want %v", got, want)
		}
		if !q.isEmpty() || q.messages != 0 || q.bytes != 0 || q.standing != 0 || len(q.gaps) != 0 {
			t.Fatalf("of an empty queue is left: %+v", q)
		}
	})
}

func pointers(events []Event) (all []*Event) {
	for i := range events {
		all = append(all, &events[i])
	}
	return all
}

func TestAnEmptyQueueKeepsLittleRoom(t *testing.T) {
	q := newQueue(Limits{Standing: 100_000}, &room{})
	for range 100_000 {
		if _, err := q.putEvent(&Event{Kind: KindConnected}); err != nil {
			t.Fatal(err)
		}
	}
	for !q.isEmpty() {
		q.takeEvents(nil, 100, 1<<40)
	}
	if cap(q.events) > maxIdleQueue {
		t.Errorf("room for %d events", cap(q.events))
	}
}
