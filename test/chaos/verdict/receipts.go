package verdict

import "fmt"

// findWrongReceipts holds each receipt against the connections that its target certainly and
// possibly matched.
func findWrongReceipts(m *model) (found []Violation) {
	for _, s := range m.ordered {
		a := s.last()
		if a.outcome != Succeeded {
			continue
		}
		least, most := m.countMatches(s)
		r, text := a.receipt, ""
		switch {
		case r.Matched != r.States:
			text = "it does not add up"
		case r.Matched-r.Dropped < least:
			text = fmt.Sprintf("at least %d connections match and stay", least)
		case r.Matched > most:
			text = fmt.Sprintf("at most %d connections match", most)
		default:
			continue
		}
		found = append(found, Violation{
			Text: fmt.Sprintf("receipt %+v of send %d to %v: %s", r, s.number, s.target, text),
			At:   a.ended, Send: s.number,
		})
	}
	return found
}

// countMatches returns how many connections a send matched at least, hubs that its receipt leaves
// out not counted, and how many it matched at most.
func (m *model) countMatches(s *send) (least, most int) {
	begun, ended := s.begun(), s.last().ended
	for _, c := range m.listed {
		if m.mayMatch(c, s.target, begun, ended) {
			most++
			if m.mayRepeat(s, c) {
				most += len(s.attempts) - 1
			}
		}
		if m.isDemanded(s, c) {
			least++
		}
	}
	for _, d := range m.dials {
		if !d.connected && !d.resumes && d.begun < ended && m.mayGhostMatch(d, s) {
			most++
		}
	}
	return least, most
}

// mayGhostMatch reports whether the connection of a handshake that failed may have matched a send.
func (m *model) mayGhostMatch(d *dial, s *send) bool {
	ghost := &connection{client: d.client}
	return !isBefore(m.gone, d.hub, s.begun()) && m.isNamedBy(ghost, s.target)
}

// findFalseAcks counts the clients that had a message when a receipt called it acked.
func findFalseAcks(m *model) (found []Violation) {
	// By send: where reliable clients have it. A repeated message has a place of its own.
	type place struct {
		connection string
		sequence   int64
	}
	arrived := map[int]map[place]bool{}
	for i, e := range m.history.Events {
		switch e.Kind {
		case Arrived:
			if arrived[e.Send] == nil {
				arrived[e.Send] = map[place]bool{}
			}
			if e.Sequence > 0 {
				arrived[e.Send][place{e.Connection, e.Sequence}] = true
			}
		case Answered:
			if e.Outcome != Succeeded || e.Receipt.Acked <= len(arrived[e.Send]) {
				continue
			}
			found = append(found, Violation{
				Text: fmt.Sprintf("%d acked in the receipt, and %d clients have it",
					e.Receipt.Acked, len(arrived[e.Send])),
				At: i, Send: e.Send,
			})
		default:
		}
	}
	return found
}
