package hub

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/internal/fairshare"
	"github.com/connhub/connhub/internal/testkit"
)

// The memory that package hub keeps, in bytes of heap after a collection. The bounds are 1.25 times
// the figures measured (Go 1.26, 64 bits) when they were set, 782, 71 and 104: a change that goes
// beyond a bound shows here, and has to be worth it.
const (
	// idleBytes is an idle plain connection with a user and a remote address of 16 bytes. It is in
	// a group of its own with a name of 16 bytes, and in a group that all are in. Ids and names are
	// included, the link not.
	idleBytes = 978
	// sharedBytes is a membership in a group of thousands, its name of 16 bytes told anew each
	// time.
	sharedBytes = 89
	// pairBytes is a membership in a group of two, half of the group's own share and name
	// included.
	pairBytes = 130
)

// quiet is a link whose wire takes everything at once, and that owns nothing.
type quiet struct{ connection *Connection }

var batches = sync.Pool{New: func() any { return new(Batch) }}

func (*quiet) Prefetch(int) {}
func (*quiet) Stirs() bool  { return false }

func (l *quiet) Flush() {
	b := batches.Get().(*Batch)
	defer batches.Put(b)
	for l.connection.Take(l, b, 64<<10) {
		l.connection.Written(l, b.Units(len(b.Bytes)))
	}
}

func (l *quiet) Close(how cause.CloseStatus) { l.connection.Unbind(l, how) }

// heapInUse returns the bytes in use after a collection.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // for the objects that the first collection found in pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// growth returns by how many bytes the heap has grown over f, per item.
func growth(items int, f func()) int64 {
	before := heapInUse()
	f()
	return (heapInUse() - before) / int64(items)
}

// quietConnection returns a connection whose names are parts of a long request, which must not be
// kept with them.
func quietConnection(t testing.TB, h *Hub, i int, groups ...string) *Connection {
	t.Helper()
	user := fmt.Sprintf("user-%011d", i)
	request := strings.Join(
		append(groups, DefaultNamespace, user, strings.Repeat("token", 200)), "/",
	)
	cut := func(name string) string {
		at := strings.Index(request, name)
		return request[at : at+len(name)]
	}
	for i, g := range groups {
		groups[i] = cut(g)
	}
	c, err := h.Attach(t.Context(), Admission{
		Namespace: cut(DefaultNamespace), User: cut(user), Groups: groups, Protocol: bare{},
		RemoteAddress: fmt.Sprintf("127.0.0.1:%06d", i),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Bind(&quiet{c}); err != nil {
		t.Fatal(err)
	}
	return c
}

// within reports the measured bytes, and fails if they are over their bound.
func within(t *testing.T, what string, bytes, bound int64) {
	t.Helper()
	t.Logf("%s: %d bytes", what, bytes)
	if !testkit.RaceEnabled && bytes > bound {
		t.Errorf("%s: %d bytes, bound %d", what, bytes, bound)
	}
}

// TestNothingTakesMoreThanItsSizeClass: Go allocates in steps, of 32 bytes here. One word more
// costs each connection, and each send, as much as four.
func TestNothingTakesMoreThanItsSizeClass(t *testing.T) {
	for _, one := range []struct {
		what  reflect.Type
		class uintptr // bytes
	}{
		{reflect.TypeFor[Connection](), 384},
		{reflect.TypeFor[delivered](), 224},
	} {
		if size := one.what.Size(); size > one.class {
			t.Errorf("a %v has %d bytes, %d beyond a size class", one.what, size, size-one.class)
		}
	}
}

func TestAnIdleConnectionTakesLittle(t *testing.T) {
	connections := 15_000
	if testkit.RaceEnabled {
		connections = 1000
	}
	const links = 8 // bytes of quiet
	h := newHub(t)
	perConnection := growth(connections, func() {
		for i := range connections {
			quietConnection(
				t, h, i, fmt.Sprintf("shared-group-%s", "one"), fmt.Sprintf("own-%012d", i),
			)
		}
	}) - links
	within(t, "a connection", perConnection, idleBytes)

	traffic := growth(connections, func() {
		for range 10 {
			send(t, h, toGroup("shared-group-one", "hi"))
		}
	})
	within(t, "what traffic adds", traffic, 16)
}

func TestAMembershipTakesLittle(t *testing.T) {
	connections, joins := 20_000, 20 // of each, in groups of two
	if testkit.RaceEnabled {
		connections = 1000
	}
	h := newHub(t)
	all := make([]*Connection, connections)
	for i := range all {
		all[i] = quietConnection(t, h, i)
	}
	join := func(i int, group string) {
		if _, err := all[i%connections].joinGroup(group); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "a membership in a large group", growth(connections*5, func() {
		for i := range connections * 5 {
			join(i, fmt.Sprintf("shared-group-%03d", i/connections))
		}
	}), sharedBytes)
	within(t, "a membership in a group of two", growth(connections*joins, func() {
		for i := range connections * joins {
			join(i, fmt.Sprintf("pair-%011d", i/2))
		}
	}), pairBytes)
	runtime.KeepAlive(all)
}

// A request id takes most where it is the only id of its namespace, which has the longest name.
func TestARequestIDTakesNoMoreThanIsSaid(t *testing.T) {
	ids := 50_000
	if testkit.RaceEnabled {
		ids = 2000
	}
	for name, namespace := range map[string]func(int) string{
		"in one namespace": func(int) string { return DefaultNamespace },
		"in its own":       func(i int) string { return fmt.Sprintf("n%0127d", i) },
	} {
		t.Run(name, func(t *testing.T) {
			r := fairshare.NewRequests[*tally](ids)
			within(t, "a request id", growth(ids, func() {
				for i := range ids {
					m := text("")
					m.Namespace = namespace(i)
					s := &Send{Message: m, Caller: "backend", RequestID: fmt.Sprint(i)}
					fate := &tally{messageID: fmt.Sprintf("%032d", i), pushed: make(chan struct{})}
					if _, known, _ := r.Begin(requestOf(s), fate); known {
						t.Fatal("a new request id is known")
					}
				}
			}), RequestIDBytes)
			runtime.KeepAlive(r)
		})
	}
}
