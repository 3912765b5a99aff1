package budget

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

// wakes is the holder of a claim, and notes that its reader was woken.
type wakes struct {
	connection *hub.Connection
	woken      bool
}

func (w *wakes) ClientIdentity() hub.Identity { return w.connection.Identity() }
func (w *wakes) WakeReader()                  { w.woken = true }

// anyProtocol is the protocol of the connections below.
type anyProtocol struct{}

func (anyProtocol) Name() string                          { return "any" }
func (anyProtocol) RouteKey(hub.Route) hub.Route          { return hub.Route{} }
func (anyProtocol) Encode(*hub.Message, hub.Route) []byte { return nil }
func (anyProtocol) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte {
	return dst
}

func (anyProtocol) AppendReply(dst []byte, _ hub.PayloadKind, _ []byte) []byte {
	return dst
}

// drawer is a claim and the model's view of it.
type drawer struct {
	claim           *Claim
	namespace, user string // the user of clients without a user is their address
	bytes           int64
	begun, paid     bool
}

// largest reports whether d holds the most at each level among the holders with a begun message.
// asks holds n more.
func (d *drawer) largest(all []*drawer, asks *drawer, n int64) bool {
	sums := func(key func(*drawer) any) map[any]int64 {
		found := make(map[any]int64)
		for _, o := range all {
			if o.paid || !o.begun && o != asks {
				continue
			}
			found[key(o)] += o.bytes
			if o == asks {
				found[key(o)] += n
			}
		}
		return found
	}
	ofUser := func(o *drawer) any {
		return [2]string{o.namespace, o.user}
	}
	levels := []struct{ within, key func(*drawer) any }{
		{func(*drawer) any { return nil }, func(o *drawer) any { return o.namespace }},
		{func(o *drawer) any { return o.namespace }, ofUser},
		{ofUser, func(o *drawer) any { return o }},
	}
	for _, level := range levels {
		now := sums(func(o *drawer) any {
			if level.within(o) != level.within(d) {
				return "elsewhere"
			}
			return level.key(o)
		})
		for key, bytes := range now {
			if key != "elsewhere" && bytes > now[level.key(d)] {
				return false
			}
		}
	}
	return true
}

// The budget holds for all requests. A link that has to end for it is the largest at each level,
// whether it asked or not.
func TestBudgetIsPaidForByTheLargest(t *testing.T) {
	config := hub.DefaultConfig()
	config.ID = hub.NewID()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	var connections []*hub.Connection
	for i := range 24 {
		c, err := h.Attach(t.Context(), hub.Admission{
			Namespace: []string{"a", "b"}[i%2], User: []string{"", "ann", "bob"}[i%3],
			Protocol:      anyProtocol{},
			RemoteAddress: fmt.Sprintf("10.0.0.%d:%d", i%2+i/12, i), // two in each namespace
		})
		if err != nil {
			t.Fatal(err)
		}
		connections = append(connections, c)
	}
	rapid.Check(t, func(t *rapid.T) {
		b := &Budget{most: 1000}
		var all []*drawer
		for _, c := range connections {
			who := c.Identity()
			user := who.User
			if user == "" {
				user, _, _ = strings.Cut(who.RemoteAddress, ":")
			}
			all = append(all, &drawer{
				claim:     &Claim{holder: &wakes{connection: c}},
				namespace: who.Namespace, user: user,
			})
		}
		for range rapid.IntRange(0, 120).Draw(t, "steps") {
			d := rapid.SampledFrom(all).Draw(t, "who")
			switch n := rapid.Int64Range(1, 200).Draw(t, "bytes"); rapid.IntRange(0, 5).Draw(t,
				"step") {
			case 0:
				if d.bytes > 0 {
					b.ReleaseBytes(d.claim, d.bytes)
					d.bytes = 0
				}
			case 1:
				if b.EndMessage(d.claim) == d.paid {
					t.Fatal("a claim that has paid is not good")
				}
				d.begun = false
			default:
				asks(t, b, all, d, n)
			}
			checkBudget(t, b, all)
		}
	})
}

// asks makes d reserve bytes, and checks which claim pays.
func asks(t *rapid.T, b *Budget, all []*drawer, d *drawer, n int64) {
	fits := b.used-b.leaving+n <= b.most
	granted := b.ReserveBytes(d.claim, n)
	var payers []*drawer
	for _, o := range all {
		if o.claim.revoked.Load() && !o.paid {
			payers = append(payers, o)
		}
	}
	if fits && len(payers) > 0 || granted && d.paid {
		t.Fatalf("%d bytes fit: %t, granted: %t, %d pay", n, fits, granted, len(payers))
	}
	for len(payers) > 0 { // in some order
		i := 0
		for i < len(payers) && !payers[i].largest(all, d, n) {
			i++
		}
		if i == len(payers) {
			t.Fatalf("%d pay that are not the largest", len(payers))
		}
		p := payers[i]
		if p == d || !p.begun || !p.claim.holder.(*wakes).woken {
			t.Fatalf("%+v pays", p)
		}
		p.paid = true
		payers = append(payers[:i], payers[i+1:]...)
	}
	if !granted && !d.paid && (fits || !d.largest(all, d, n)) {
		t.Fatalf("%+v is refused", d)
	}
	if granted {
		d.bytes += n
		d.begun = true
	}
}

func checkBudget(t *rapid.T, b *Budget, all []*drawer) {
	var used, leaving int64
	claims := 0
	for _, o := range all {
		used += o.bytes
		if o.paid {
			leaving += o.bytes
		}
		if o.bytes > 0 {
			claims++
		}
	}
	if used != b.used || leaving != b.leaving || claims != len(b.claims) || used-leaving > b.most {
		t.Fatalf("used %d, want %d; leaving %d, want %d; %d claims, want %d", b.used, used,
			b.leaving, leaving, len(b.claims), claims)
	}
}
