package verdict

import (
	"fmt"
	"slices"
)

// Violation is a promise that a history breaks.
type Violation struct {
	Rule       string // name of the rule
	Text       string // how it was broken
	At         int    // index of the event that shows it
	Connection string // empty: it concerns no single connection
	Send       int    // 0: it concerns no single send
}

// rule is a promise, and the search for histories that break it.
type rule struct {
	name    string
	promise string
	// isOfMoves marks a promise that holds only when connections move between hubs. Without that a
	// client that comes back to another hub gets 1008 and begins anew.
	isOfMoves bool
	find      func(*model) []Violation
}

// rules is the table of the promises that a run is held to.
//
// A connection that ends may take undelivered messages with it. They are lost as a tail: it got
// all messages up to some point, each once and in order, and nothing behind it. The rule "lost"
// needs no exception for this: it demands a message only of a connection that got a later message.
var rules = []rule{
	{
		"lost", "a connection gets every message that it matched, up to the last one that it gets",
		false, findLost,
	},
	{"doubled", "a connection gets a message once, under one sequence id, but for the retry of a " +
		"send to a connection that may have moved since the first try", false, findDoubled},
	{"reordered", "a send that began after another one had returned arrives behind it, unless " +
		"that one has counted a connection as in transfer, and went through another hub or for " +
		"another caller; sends of a stream arrive in its order", false, findReordered},
	{
		"published", "a message that a client publishes to its own group comes to the client " +
			"itself when it has the ack, and in the client's order",
		false, findLostPublishes,
	},
	{
		"gap", "sequence ids have no gap, and keep their messages when a client comes back",
		false, findGaps,
	},
	{
		"stray", "a message comes only to connections that its target may have matched",
		false, findStrays,
	},
	{
		"receipt", "a receipt adds up, and counts no fewer and no more connections than can be",
		false, findWrongReceipts,
	},
	{
		"acked", "a receipt counts a message as acked only if its client has it",
		false, findFalseAcks,
	},
	{"member", "a join of a connection that exists is counted", false, findLostJoins},
	{
		"zombie", "a connection that a backend closed gets no later message and is not resumed",
		false, findZombies,
	},
	{
		"disconnected", "a connection gets no later message, and is not resumed, when a hub has " +
			"told backends of its end",
		false, findFalseEvents,
	},
	{
		"refused", "a client can resume its connection at its hub while the hub runs",
		false, findRefusals,
	},
	{
		"survives", "a client keeps its connection, unless a backend closes it, a hub is killed, " +
			"or a hub stops without moving it away",
		true, findEnds,
	},
}

// Judge returns the violations of a history, at most mostViolations for each rule.
// moves adds the promises that hold when connections move between hubs.
func Judge(h History, moves Moves) []Violation {
	m := newModel(h, moves)
	var all []Violation
	for _, r := range rules {
		if r.isOfMoves && moves == NoMoves {
			continue
		}
		found := r.find(m)
		for _, v := range found[:min(len(found), mostViolations)] {
			v.Rule = r.name
			all = append(all, v)
		}
	}
	return all
}

// mostViolations is how many violations of a rule a person reads.
const mostViolations = 10

// Promise returns the promise of the rule with a name.
func Promise(name string) string {
	i := slices.IndexFunc(rules, func(r rule) bool { return r.name == name })
	return rules[i].promise
}

// isDemanded reports whether a message must have come to a connection.
func (m *model) isDemanded(s *send, c *connection) bool {
	return m.isClean(s, c) && m.matchesSurely(c, s.target, s.begun(), s.last().ended)
}

// CountDemands counts the messages that the rule "lost" demands of all connections. It tells how
// much a history proves.
func CountDemands(h History, moves Moves) (count int) {
	m := newModel(h, moves)
	for _, c := range m.listed {
		for _, s := range m.ordered {
			if m.isDemanded(s, c) {
				count++
			}
		}
	}
	return count
}

func findLost(m *model) (found []Violation) {
	for _, c := range m.listed {
		for _, s := range m.ordered {
			if _, got := c.got[s.number]; got || !m.isDemanded(s, c) {
				continue
			}
			found = append(found, Violation{
				Text: fmt.Sprintf("send %d to %v never came, receipt %+v",
					s.number, s.target, s.last().receipt),
				At: s.last().ended, Connection: c.id, Send: s.number,
			})
		}
	}
	return found
}

func findDoubled(m *model) (found []Violation) {
	type place struct {
		link     int
		sequence int64
	}
	for _, c := range m.listed {
		sequences, links := map[int]int64{}, map[place]bool{}
		for _, a := range c.arrivals {
			first, again := sequences[a.send.number]
			here := place{a.link, a.sequence}
			// A message that the client has not acknowledged comes again on the next link.
			isReplay := a.sequence > 0 && a.sequence == first && !links[here]
			if again && !isReplay && !m.mayRepeat(a.send, c) {
				found = append(found, Violation{
					Text: fmt.Sprintf("send %d came with sequence %d and again with %d",
						a.send.number, first, a.sequence),
					At: a.index, Connection: c.id, Send: a.send.number,
				})
			}
			if !again {
				sequences[a.send.number] = a.sequence
			}
			links[here] = true
		}
	}
	return found
}

func findReordered(m *model) (found []Violation) {
	for _, c := range m.listed {
		before := gotSends{ofSource: map[source]*send{}, ofStream: map[int]*send{}}
		for _, s := range c.firsts {
			if overtaken := before.findOvertaken(m, c, s); overtaken != nil {
				found = append(found, Violation{
					Text: fmt.Sprintf("send %d of caller %d came behind send %d of caller %d",
						s.number, s.caller, overtaken.number, overtaken.caller),
					At: c.got[s.number], Connection: c.id, Send: s.number,
				})
			}
			before.add(s)
		}
	}
	return found
}

// gotSends are the sends that a connection has got so far. Of each set it has the send that began
// last.
type gotSends struct {
	last     *send
	ofSource map[source]*send
	ofStream map[int]*send
}

// findOvertaken returns a send before s that should have come behind it, or nil.
func (g *gotSends) findOvertaken(m *model, c *connection, s *send) (overtaken *send) {
	a := s.last()
	// A stream has a single entry hub. It keeps its order also if a peer is unreachable.
	if s.isStreamed() && beginsAfter(g.ofStream[a.stream], s.begun()) {
		return g.ofStream[a.stream]
	}
	before := g.last
	if a.receipt.InTransfer > 0 {
		// It had not reached every outbox when its wait ended. Only the hub that was called keeps
		// such sends of a caller in order.
		of, ok := s.source()
		if !ok {
			return nil
		}
		before = g.ofSource[of]
	}
	if m.isClean(s, c) && beginsAfter(before, a.ended) {
		return before
	}
	return nil
}

func (g *gotSends) add(s *send) {
	g.last = later(g.last, s)
	if of, ok := s.source(); ok {
		g.ofSource[of] = later(g.ofSource[of], s)
	}
	if s.isStreamed() {
		stream := s.last().stream
		g.ofStream[stream] = later(g.ofStream[stream], s)
	}
}

// later returns the send that began later. before may be nil.
func later(before, s *send) *send {
	if before == nil || beginsAfter(s, before.begun()) {
		return s
	}
	return before
}

func beginsAfter(s *send, at int) bool { return s != nil && s.begun() > at }

// findLostPublishes looks at publishers alone: the ack says that the message is in their outbox.
// For the connections of other hubs the hub has only put the message in line.
func findLostPublishes(m *model) (found []Violation) {
	note := func(c *connection, s *send, at int, text string) {
		found = append(found, Violation{
			Text: fmt.Sprintf("publish %d %s", s.number, text),
			At:   at, Connection: c.id, Send: s.number,
		})
	}
	for _, s := range m.ordered {
		c := m.conns[s.publisher]
		if c == nil {
			continue
		}
		if _, got := c.got[s.number]; !got && s.confirmed < c.aliveUntil {
			note(c, s, s.confirmed, "never came back, and the client has the ack")
		}
	}
	for _, c := range m.listed {
		var latest *send
		for _, s := range c.firsts {
			if s.publisher != c.id {
				continue
			}
			if latest != nil && latest.begun() > s.begun() {
				note(c, s, c.got[s.number], fmt.Sprint("came behind publish ", latest.number))
			}
			latest = s
		}
	}
	return found
}

func findGaps(m *model) (found []Violation) {
	for _, c := range m.listed {
		highest, link, next := int64(0), 0, int64(0)
		numbered := map[int64]*send{}
		for _, a := range c.arrivals {
			if a.sequence == 0 {
				continue
			}
			text := ""
			switch before := numbered[a.sequence]; {
			case a.link == link && a.sequence != next || a.sequence > highest+1:
				text = fmt.Sprintf("sequence %d on link %d behind %d; the highest before was %d",
					a.sequence, a.link, next-1, highest)
			case before != nil && before != a.send:
				text = fmt.Sprintf("sequence %d is send %d, and was send %d before",
					a.sequence, a.send.number, before.number)
			}
			if text != "" {
				found = append(found, Violation{
					Text: text, At: a.index, Connection: c.id, Send: a.send.number,
				})
			}
			numbered[a.sequence] = a.send
			highest, link, next = max(highest, a.sequence), a.link, a.sequence+1
		}
	}
	return found
}

func findStrays(m *model) (found []Violation) {
	for _, c := range m.listed {
		for _, s := range c.firsts {
			until := never
			if m.isClean(s, c) {
				until = s.last().ended
			}
			if m.mayMatch(c, s.target, s.begun(), until) {
				continue
			}
			found = append(found, Violation{
				Text: fmt.Sprintf("send %d to %v came to a connection that it can't match",
					s.number, s.target),
				At: c.got[s.number], Connection: c.id, Send: s.number,
			})
		}
	}
	return found
}

func findLostJoins(m *model) (found []Violation) {
	begun := map[[2]string]int{}
	for i, e := range m.history.Events {
		pair := [2]string{e.Connection, e.Group}
		switch e.Kind {
		case Joining:
			begun[pair] = i
		case Joined:
			c := m.conns[e.Connection]
			if e.Outcome != Succeeded || e.Receipt.Matched > 0 ||
				m.leavesOut(e.Receipt, c) ||
				!m.matchesSurely(c, Target{Connection: c.id}, begun[pair], i) {
				continue
			}
			found = append(found, Violation{
				Text: fmt.Sprintf("the join of group %s matched nothing", e.Group),
				At:   i, Connection: c.id,
			})
		default:
		}
	}
	return found
}

func findZombies(m *model) []Violation {
	return m.findLifeAfter("a backend has closed it", func(c *connection) int { return c.kicked })
}

func findFalseEvents(m *model) []Violation {
	return m.findLifeAfter("a hub has told of its end", func(c *connection) int {
		return c.toldOver
	})
}

// findLifeAfter finds messages and resumes of connections behind an end.
func (m *model) findLifeAfter(why string, end func(*connection) int) (found []Violation) {
	for _, c := range m.listed {
		for _, s := range c.firsts {
			if end(c) < s.begun() {
				found = append(found, Violation{
					Text: fmt.Sprintf("send %d came to a connection, although %s", s.number, why),
					At:   c.got[s.number], Connection: c.id, Send: s.number,
				})
			}
		}
	}
	for i, e := range m.history.Events {
		if e.Kind == Connected && end(m.conns[e.Connection]) < m.dials[e.Link].begun {
			found = append(found, Violation{
				Text: "a connection is resumed, although " + why, At: i, Connection: e.Connection,
			})
		}
	}
	return found
}

func findRefusals(m *model) (found []Violation) {
	for i, e := range m.history.Events {
		if e.Kind != Refused || e.Hub != HubOf(e.Connection) {
			continue
		}
		c := m.conns[e.Connection]
		if c.kickBegun < i || c.closed < i || len(c.hubs) > 1 || isBefore(m.ending, e.Hub, i) ||
			m.moves != NoMoves { // then the rule "survives" holds for all hubs
			continue
		}
		found = append(found, Violation{
			Text: "the hub of the connection runs and refuses to resume it",
			At:   i, Connection: e.Connection,
		})
	}
	return found
}

// findEnds knows no end but a kick and the end of a hub. Neither a refusal nor the code 1008, which
// makes clients begin anew, has another excuse.
func findEnds(m *model) (found []Violation) {
	const policyViolation = 1008
	for i, e := range m.history.Events {
		isEnd := e.Kind == Refused || e.Kind == Lost && e.Code == policyViolation
		if !isEnd {
			continue
		}
		c := m.conns[e.Connection]
		if !m.history.Clients[c.client].Reliable || c.kickBegun < i || m.mayHaveEnded(c, i) {
			continue
		}
		found = append(found, Violation{
			Text: "a reliable client has lost its connection", At: i, Connection: e.Connection,
		})
	}
	return found
}
