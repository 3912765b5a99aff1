package verdict

import (
	"slices"
	"strings"
)

// Hits counts how often a fault struck.
type Hits struct {
	Struck   int // in all
	InFlight int // while a send was under way
}

// CountHits counts the faults of a history by name.
func CountHits(h History) map[string]Hits {
	hits, under := map[string]Hits{}, map[int]bool{}
	for _, e := range h.Events {
		switch e.Kind {
		case Sent:
			under[e.Send] = true
		case Answered:
			delete(under, e.Send)
		case Struck:
			n := hits[e.Fault]
			n.Struck++
			if len(under) > 0 {
				n.InFlight++
			}
			hits[e.Fault] = n
		default:
		}
	}
	return hits
}

// Excerpt returns up to so many events around a violation, a line each: those of its connection,
// its client and its send, and the faults.
func Excerpt(h History, v Violation, lines int) string {
	client := h.clientOf(v.Connection)
	var near []int
	for i, e := range h.Events {
		if v.concerns(e, client) {
			near = append(near, i)
		}
	}
	at, _ := slices.BinarySearch(near, v.At)
	from := max(0, min(at-lines/2, len(near)-lines))
	var b strings.Builder
	for _, i := range near[from:min(len(near), from+lines)] {
		mark := "  "
		if i == v.At {
			mark = "> "
		}
		b.WriteString(mark + h.Events[i].String() + "\n")
	}
	return b.String()
}

// clientOf returns the client of a connection; -1: there is none.
func (h *History) clientOf(connection string) int {
	for _, e := range h.Events {
		if e.Kind == Connected && e.Connection == connection {
			return e.Client
		}
	}
	return -1
}

// concerns reports whether an event belongs to the story of a violation. The messages of its
// connection do if it is about a message.
func (v *Violation) concerns(e Event, client int) bool {
	switch e.Kind {
	case Struck, Mended, Stopping, Killing, Gone:
		return true
	default:
	}
	return v.Send > 0 && e.Send == v.Send ||
		v.Connection != "" && e.Connection == v.Connection && (v.Send > 0 || e.Kind != Arrived) ||
		e.Link > 0 && e.Client == client && e.Kind != Arrived
}
