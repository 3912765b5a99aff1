package verdict

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// world is a cluster without faults of its own: it makes histories that keep every promise. Clients
// lose their links, and hubs are unreachable now and then.
type world struct {
	History

	random *rand.Rand
	hubs   []string
	users  []*guest
	links  int
	sends  int
}

// guest is a client and its connection.
type guest struct {
	index  int
	id     string // of the connection
	link   int    // 0: none
	outbox []int  // sends that have no number yet
	tail   []int  // sends with the numbers from acked+1
	acked  int64
	number int64           // that the last written message has
	joined map[string]bool // at run time
}

const (
	worldClients = 8
	worldGroups  = 3
	worldSteps   = 150
)

// newWorld makes a history.
func newWorld(seed uint64) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), hubs: []string{"hub1", "hub2", "hub3"}}
	for i := range worldClients {
		w.Clients = append(w.Clients, Client{
			User:     fmt.Sprint("user-", i/2),
			Groups:   []string{fmt.Sprint("group-", i%worldGroups)},
			Reliable: i%3 > 0,
		})
		g := &guest{index: i}
		w.users = append(w.users, g)
		w.connect(g)
	}
	for range worldSteps {
		w.takeStep()
	}
	for _, g := range w.users {
		for g.link == 0 {
			w.connect(g)
		}
	}
	w.send([]Target{{Everyone: true}}, 0)
	for _, g := range w.users {
		w.deliver(g, len(g.outbox))
	}
	return w
}

func (w *world) record(e Event) {
	e.At = time.Duration(len(w.Events)) * time.Millisecond
	w.Events = append(w.Events, e)
}

func (w *world) takeStep() {
	g := w.users[w.random.IntN(len(w.users))]
	switch p := w.random.IntN(100); {
	case p < 30:
		w.send([]Target{w.drawTarget()}, 0)
	case p < 45:
		w.send([]Target{w.drawTarget(), w.drawTarget(), w.drawTarget()}, 1)
	case g.link == 0:
		w.connect(g)
	case p < 75:
		w.deliver(g, 1+w.random.IntN(3))
	case p < 80:
		w.acknowledge(g)
	case p < 88:
		w.record(Event{Kind: Lost, Client: g.index, Link: g.link, Connection: g.id})
		g.link = 0
	case p < 92:
		w.changeGroup(g)
	case p < 94:
		w.kick(g)
	default:
		w.fail(g)
	}
}

func (w *world) drawTarget() Target {
	switch g := w.users[w.random.IntN(len(w.users))]; w.random.IntN(10) {
	case 0, 1, 2:
		return Target{Connection: g.id}
	case 3, 4:
		return Target{User: w.Clients[g.index].User}
	case 5, 6:
		return Target{Group: fmt.Sprint("group-", w.random.IntN(worldGroups))}
	case 7, 8:
		return Target{Group: "late"}
	default:
		return Target{Everyone: true}
	}
}

// connect resumes the connection of a reliable client. The client may be refused at another hub,
// and then begins anew.
func (w *world) connect(g *guest) {
	hub := w.hubs[w.random.IntN(len(w.hubs))]
	w.links++
	e := Event{Client: g.index, Link: w.links, Hub: hub}
	if w.Clients[g.index].Reliable {
		e.Connection = g.id
	}
	e.Kind = Dialled
	w.record(e)
	if e.Connection != "" && hub != HubOf(g.id) {
		e.Kind = Refused
		w.record(e)
		*g = guest{index: g.index}
		return
	}
	if e.Connection == "" {
		*g = guest{
			index: g.index, id: fmt.Sprintf("%s.%d", hub, w.links), joined: map[string]bool{},
		}
	} else {
		g.outbox, g.tail, g.number = append(g.tail, g.outbox...), nil, g.acked
	}
	g.link = w.links
	w.record(Event{Kind: Connected, Client: g.index, Link: g.link, Connection: g.id})
}

func (w *world) fail(g *guest) {
	w.links++
	w.record(Event{Kind: Dialled, Client: g.index, Link: w.links, Hub: w.hubs[0]})
	w.record(Event{Kind: Failed, Client: g.index, Link: w.links})
}

func (w *world) deliver(g *guest, count int) {
	for range min(count, len(g.outbox)) {
		e := Event{
			Kind: Arrived, Client: g.index, Link: g.link, Connection: g.id, Send: g.outbox[0],
		}
		if w.Clients[g.index].Reliable {
			g.number++
			e.Sequence = g.number
			g.tail = append(g.tail, g.outbox[0])
		}
		g.outbox = g.outbox[1:]
		w.record(e)
	}
}

func (w *world) acknowledge(g *guest) {
	g.acked, g.tail = g.number, nil
}

// send sends a message to each target, as a stream if its number is not 0.
func (w *world) send(targets []Target, stream int) {
	hub, away := w.hubs[w.random.IntN(len(w.hubs))], ""
	if w.random.IntN(8) == 0 && !targets[0].Everyone {
		away = w.hubs[w.random.IntN(len(w.hubs))]
	}
	first := w.sends + 1
	for _, t := range targets {
		w.sends++
		w.record(Event{Kind: Sent, Send: w.sends, Stream: stream, Hub: hub, Target: t})
	}
	receipts := make([]Receipt, len(targets))
	for i, t := range targets {
		r := &receipts[i]
		for _, g := range w.users {
			switch {
			case g.id == "" || !w.isMatch(g, t):
			case HubOf(g.id) == away:
				if w.random.IntN(2) == 0 {
					g.outbox = append(g.outbox, first+i)
				}
			default:
				g.outbox = append(g.outbox, first+i)
				r.Matched, r.States = r.Matched+1, r.States+1
			}
		}
		if away != "" {
			r.Unreachable = []string{away}
		}
	}
	g := w.users[w.random.IntN(len(w.users))]
	if g.link > 0 {
		w.deliver(g, len(g.outbox))
	}
	for i, r := range receipts {
		w.record(Event{Kind: Answered, Send: first + i, Hub: hub, Outcome: Succeeded, Receipt: r})
	}
}

func (w *world) isMatch(g *guest, t Target) bool {
	c := w.Clients[g.index]
	return t.Everyone || t.Connection != "" && t.Connection == g.id || t.User == c.User ||
		slices.Contains(c.Groups, t.Group) || g.joined[t.Group]
}

func (w *world) changeGroup(g *guest) {
	begin, end := Joining, Joined
	if g.joined["late"] {
		begin, end = Leaving, Left
	}
	w.record(Event{Kind: begin, Connection: g.id, Group: "late"})
	w.send([]Target{{Group: "late"}}, 0)
	g.joined["late"] = !g.joined["late"]
	w.record(Event{
		Kind: end, Connection: g.id, Group: "late", Outcome: Succeeded,
		Receipt: Receipt{Matched: 1},
	})
}

func (w *world) kick(g *guest) {
	w.record(Event{Kind: Kicking, Connection: g.id})
	w.deliver(g, len(g.outbox))
	w.record(Event{
		Kind: Kicked, Connection: g.id, Outcome: Succeeded, Receipt: Receipt{Matched: 1},
	})
	w.record(Event{Kind: Lost, Client: g.index, Link: g.link, Connection: g.id, Code: 4000})
	*g = guest{index: g.index}
}
