package hub

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/hub/transfer"
)

// mostQueued is small, so that messages are dropped.
const mostQueued = 3

// wanderer is a connection among three hubs, and the notes that a child would take of it.
type wanderer struct {
	t     *testing.T
	hubs  [3]*Hub
	refs  [3]*references
	owner int // index of the hub that matches it, or matched it before Seal
	id    ConnectionID
	token string // with which the client came last
	link  *client

	// The move under way; stage is that of the old hub. Live: none is.
	stage    transfer.Stage
	adopted  bool
	to       int
	snapshot *Snapshot
	told     []string // the groups that the new hub knows of

	sends  int
	sent   []string // the client must get them, in order
	keys   []string // of sent
	got    []string // the client has got them
	groups []string
	allows map[string]bool
	done   []uint64
	isLost bool
}

func (w *wanderer) connection() *Connection { return find(w.t, w.hubs[w.owner], w.id) }

func (w *wanderer) passage() *passage {
	return &passage{w.t, w.hubs[w.owner], w.hubs[w.to], w.id}
}

// read takes the frames of the link in: a client knows by the sequence id which it has already.
func (w *wanderer) read() {
	if w.link == nil {
		return
	}
	for _, frame := range w.link.link.numberedFrames(w.t) {
		var sequence int
		var m string
		_, err := fmt.Sscanf(frame, "%d u:%s", &sequence, &m)
		breakIf(err != nil, "frame %q: %v", frame, err)
		switch next := len(w.got) + 1; {
		case sequence == next:
			w.got = append(w.got, m)
		case sequence > next:
			breakIf(true, "sequence id %d after %d", sequence, len(w.got))
		default:
			breakIf(w.got[sequence-1] != m, "%q has the sequence id of %q", m, w.got[sequence-1])
		}
	}
	breakIf(!slices.Equal(w.got, w.sent[:len(w.got)]), "got %q, sent %q", w.got, w.sent)
}

// lose is a broken network.
func (w *wanderer) lose() {
	w.read()
	if w.link != nil {
		w.link.lose()
		w.link = nil
	}
}

// arrive is the end of a move.
func (w *wanderer) arrive() {
	w.passage().commit()
	w.read()
	w.link, w.owner, w.stage, w.adopted = nil, w.to, transfer.Live, false
}

// wantReferences returns the references that a hub must have.
func (w *wanderer) wantReferences(at int) map[Key]int {
	groups := w.groups
	switch {
	case w.isLost, at != w.owner && (at != w.to || !w.adopted):
		return map[Key]int{}
	case at != w.owner:
		groups = w.told
	}
	want := map[Key]int{
		{RouteEveryone, DefaultNamespace, ""}: 1, {RouteUser, DefaultNamespace, "ann"}: 1,
	}
	for _, g := range groups {
		want[Key{RouteGroup, DefaultNamespace, g}] = 1
	}
	if at != 0 { // it was born at the first hub
		want[Key{RouteConnection, DefaultNamespace, string(w.id)}] = 1
	}
	return want
}

func (w *wanderer) check() {
	for i, r := range w.refs {
		diff := cmp.Diff(w.wantReferences(i), r.snapshot())
		breakIf(diff != "", "references of hub %d: %s", i, diff)
		if keys := w.hubs[i].Moves().Keys(w.id); !w.isLost || keys != nil {
			got := map[Key]int{}
			for _, k := range keys {
				got[k]++
			}
			diff := cmp.Diff(w.wantReferences(i), got)
			breakIf(diff != "", "keys of hub %d: %s", i, diff)
		}
	}
	if w.isLost {
		w.checkLost()
		return
	}
	if w.stage == transfer.Live || w.stage == transfer.Moving {
		info := w.connection().Info()
		breakIf(!slices.Equal(info.Groups, w.groups), "groups %q, want %q", info.Groups, w.groups)
		for group, allowed := range w.allows {
			may := w.connection().May(joining(group))
			breakIf(may != allowed, "may join %q: %t", group, may)
		}
		for _, command := range w.done {
			breakIf(!w.connection().Did(command), "command %d is forgotten", command)
		}
	}
	for i, h := range w.hubs {
		err := h.CheckAtRest()
		breakIf(err != nil, "hub %d: %v", i, err)
		matches := w.stage != transfer.Sealed && i == w.owner
		n := len(h.listMatching(DefaultNamespace, &Target{Users: []string{"ann"}}))
		breakIf(n == 1 != matches, "hub %d matches %d", i, n)
		w.checkReads(h, i == w.owner)
	}
	w.read()
}

// checkReads fails if the reads of a hub don't show the connection, or do although they should not.
func (w *wanderer) checkReads(h *Hub, shown bool) {
	everyone := &Target{Everyone: true}
	both := &Target{Users: []string{"ann"}, Connections: []string{string(w.id)}}
	n := h.Count(DefaultNamespace, both)
	breakIf(n == 1 != shown, "a read counts %d", n)
	info, err := h.Connection(DefaultNamespace, string(w.id))
	breakIf(err == nil != shown, "a read: %v", err)
	all, _, _ := h.Connections(DefaultNamespace, everyone, Cursor{}, 10)
	breakIf(len(all) == 1 != shown, "%d are listed", len(all))
	matched, _, _ := h.Permits(w.t.Context(), DefaultNamespace, everyone, nil)
	breakIf(matched == 1 != shown, "the permissions of %d", matched)
	groups, _, _ := h.Groups(DefaultNamespace, Cursor{}, 10)
	if !shown {
		breakIf(len(groups) != 0, "there are groups: %v", groups)
		return
	}
	breakIf(!slices.Equal(info.Groups, w.groups), "a read has the groups %q", info.Groups)
	same := info.Epoch == all[0].Epoch && info.Epoch > 0
	breakIf(!same, "epochs %d, %d", info.Epoch, all[0].Epoch)
	breakIf(len(groups) != len(w.groups), "groups %v", groups)
	for _, g := range groups {
		one, err := h.Group(DefaultNamespace, g.Name)
		breakIf(err != nil || g.Members != 1 || one != g, "group %v, %v, %v", g, one, err)
	}
}

// checkLost fails if anything is left of a connection that neither hub could go on with.
func (w *wanderer) checkLost() {
	for i, h := range w.hubs {
		err := h.CheckAtRest()
		breakIf(err != nil, "hub %d: %v", i, err)
		checkEmpty(w.t, h)
	}
}

// TestAWandererIsAsAChildNoted drives a connection and its client through moves among three hubs,
// which may be cut short at any step, with sends, acks, joins, grants, lost links and resumes in
// between.
func TestAWandererIsAsAChildNoted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bubble(t, rt, func(t *testing.T) { wander(t, rt) })
	})
}

func wander(t *testing.T, rt *rapid.T) {
	w := &wanderer{t: t, allows: map[string]bool{}}
	for i := range w.hubs {
		w.refs[i] = newReferences()
		w.hubs[i] = newHub(t, func(c *Config) {
			c.Outbox.Messages, c.Interest = mostQueued, w.refs[i]
		})
		w.hubs[i].config.Window.Messages = rapid.IntRange(1, 6).Draw(rt, "window")
	}
	w.link = connectAs(t, w.hubs[0], numbered{}, "ann")
	w.id, w.token = w.link.ID(), w.link.link.token(t)
	owned := func() bool { return w.stage != transfer.Sealed }
	actions := map[string]func(*rapid.T){
		"send": func(rt *rapid.T) {
			if !owned() {
				return
			}
			w.sends++
			m := fmt.Sprint(w.sends)
			s := &Send{Message: text(m), Target: Target{Users: []string{"ann"}}}
			key := rapid.SampledFrom([]string{"", "x", "y"}).Draw(rt, "key")
			if s.Policy = overflow.DropOldest; key != "" {
				s.Policy, s.ConflationKey = overflow.Conflate, key
			}
			// the messages behind have no number yet
			queued := int(stateOf(w.connection()).Sequence)
			send(t, w.hubs[w.owner], s)
			if i := slices.Index(w.keys[queued:], key); key != "" && i >= 0 {
				w.sent[queued+i] = m
				return
			}
			if len(w.sent)-queued == mostQueued {
				w.sent = slices.Delete(w.sent, queued, queued+1)
				w.keys = slices.Delete(w.keys, queued, queued+1)
			}
			w.sent, w.keys = append(w.sent, m), append(w.keys, key)
		},
		"ack": func(rt *rapid.T) {
			if w.read(); owned() && len(w.got) > 0 {
				to := rapid.IntRange(1, len(w.got)).Draw(rt, "to")
				must(t, "ack", w.connection().Ack(uint64(to)))
			}
		},
		"join or leave": func(rt *rapid.T) {
			if !owned() {
				return
			}
			g := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "group")
			if i := slices.Index(w.groups, g); i >= 0 {
				w.connection().Leave(g)
				w.groups = slices.Delete(w.groups, i, i+1)
			} else {
				must(t, "join", w.connection().Join(t.Context(), g))
				w.groups = append(w.groups, g)
			}
		},
		"grant": func(rt *rapid.T) {
			if owned() {
				g := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "group")
				w.allows[g] = rapid.Bool().Draw(rt, "allowed")
				one := permission.Grant{Permission: joining(g), Revoked: !w.allows[g]}
				must(t, "grant", w.connection().addGrants(grants(one)))
			}
		},
		"do": func(rt *rapid.T) {
			if owned() {
				w.done = append(w.done, rapid.Uint64Range(1, 20).Draw(rt, "command"))
				w.connection().Done(w.done[len(w.done)-1])
			}
		},
		"lose": func(*rapid.T) { w.lose() },
		"resume": func(*rapid.T) {
			if w.stage == transfer.Live {
				w.read()
				w.link = comeBack(t, w.hubs[w.owner], w.id, w.token)
				w.token = w.link.link.token(t)
			}
		},
		"move on": func(rt *rapid.T) {
			switch {
			case w.stage == transfer.Live:
				w.to = (w.owner + rapid.IntRange(1, 2).Draw(rt, "to")) % len(w.hubs)
				w.snapshot, w.stage = w.passage().freeze(), transfer.Moving
			case !w.adopted:
				w.adopted, w.told = true, w.snapshot.Groups
				w.passage().adopt(w.snapshot)
			case w.stage == transfer.Moving && rapid.Bool().Draw(rt, "more changes"):
				w.passage().change()
				w.told = slices.Clone(w.groups)
			case w.stage == transfer.Moving:
				w.passage().seal()
				w.stage, w.told = transfer.Sealed, w.groups
				moved := stateOf(w.hubs[w.owner].moves.away[w.id].connection)
				shadow := stateOf(w.hubs[w.to].moves.shadow[w.id])
				moved.stage, shadow.stage, shadow.Epoch = 0, 0, shadow.Epoch-1
				diff := cmp.Diff(moved, shadow, append(sameStates, equateEmpty)...)
				breakIf(diff != "", "the shadow is not as the connection: %s", diff)
			default:
				w.arrive()
			}
		},
		"fail": func(*rapid.T) {
			if w.stage != transfer.Live {
				w.passage().fail()
				w.stage, w.adopted = transfer.Live, false
			}
		},
		"lose the new hub": func(rt *rapid.T) {
			if w.stage == transfer.Sealed && rapid.IntRange(0, 3).Draw(rt, "lost") == 0 {
				w.read()
				w.hubs[w.owner].Moves().Lose(w.id)
				must(t, "abandon", w.hubs[w.to].Moves().Abandon(w.id))
				w.isLost = true
			}
		},
	}
	for name, action := range actions {
		actions[name] = func(rt *rapid.T) {
			if !w.isLost {
				action(rt)
			}
		}
	}
	actions[""] = func(*rapid.T) { w.check() }
	rt.Repeat(actions)
	if w.isLost {
		return
	}
	if w.stage != transfer.Live {
		w.passage().fail()
	}
	// A client that confirms the messages that it reads gets all.
	w.read()
	w.link = comeBack(t, w.hubs[w.owner], w.id, w.token)
	for before := -1; before < len(w.got); {
		before = len(w.got)
		if w.read(); len(w.got) > 0 {
			must(t, "ack", w.connection().Ack(uint64(len(w.got))))
		}
		w.read()
	}
	breakIf(len(w.got) != len(w.sent), "%d messages have arrived of %d", len(w.got), len(w.sent))
	w.link.Close(cause.Client.CloseStatus())
	for _, h := range w.hubs {
		checkEmpty(t, h)
	}
}
