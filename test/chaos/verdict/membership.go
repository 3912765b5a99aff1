package verdict

// membership is what is known of a connection in a group that it joins and leaves at run time. Nil:
// no call was made. Calls for a pair of connection and group do not overlap.
type membership struct {
	sure      []span
	maybe     []span
	joinStray bool // a join with an unknown outcome may come into force at any time
	quitStray bool // the same for a leave
}

// span is a part of the history. until is never while it goes on.
type span struct{ from, until int }

// isSure reports whether the connection was certainly a member during all of a part.
func (m *membership) isSure(from, to int) bool {
	if m == nil {
		return false
	}
	for _, s := range m.sure {
		if s.from <= from && to <= s.until {
			return true
		}
	}
	return false
}

// mayBe reports whether the connection may have been a member at some time of a part.
func (m *membership) mayBe(from, to int) bool {
	if m == nil {
		return false
	}
	for _, s := range m.maybe {
		if s.from <= to && from <= s.until {
			return true
		}
	}
	return false
}

func endSpan(spans []span, at int) {
	if n := len(spans); n > 0 && spans[n-1].until == never {
		spans[n-1].until = at
	}
}

func beginSpan(spans []span, at int) []span {
	if n := len(spans); n > 0 && spans[n-1].until == never {
		return spans
	}
	return append(spans, span{at, never})
}

func (m *model) readMembership(i int, e Event) {
	c := m.conns[e.Connection]
	g := c.groups[e.Group]
	if g == nil {
		g = &membership{}
		c.groups[e.Group] = g
	}
	isClean := e.Outcome == Succeeded && !m.leavesOut(e.Receipt, c)
	switch e.Kind {
	case Joining:
		g.maybe = beginSpan(g.maybe, i)
	case Joined:
		g.endJoin(i, e, isClean)
	case Leaving:
		endSpan(g.sure, i)
	case Left:
		g.endLeave(i, e, isClean)
	default:
	}
}

func (m *membership) endJoin(i int, e Event, isClean bool) {
	m.joinStray = m.joinStray || !isClean && e.Outcome != Declined
	if isClean && e.Receipt.Matched > 0 && !m.quitStray {
		m.sure = beginSpan(m.sure, i)
	}
}

func (m *membership) endLeave(i int, e Event, isClean bool) {
	m.quitStray = m.quitStray || !isClean && e.Outcome != Declined
	if isClean && !m.joinStray {
		endSpan(m.maybe, i)
	}
}
