package moving

import "github.com/connhub/connhub/hub"

// Room says how many connections and clients a peer can take at a moment.
type Room struct {
	Hub hub.ID // the peer
	// IsNewer: the peer is of a newer generation than this hub. It is not going to be replaced as
	// soon as the rest.
	IsNewer  bool
	Places   int // connections that the peer can hold more
	Connects int // clients that the peer lets connect now; more would have to wait
}

func (r Room) hasPlaces() bool { return r.Places > 0 }

// shareOut returns how many of count connections each room gets, as far as there are places.
//
// The newer rooms come first. They get what their connects allow. need is how many must move now:
// the older rooms get connections only for that, and rooms beyond their connects, too. If no newer
// room has a place, all are alike. Rooms get connections in proportion to their places.
func shareOut(rooms []Room, count, need int) []int {
	given := make([]int, len(rooms))
	hasNewer := false
	for _, r := range rooms {
		hasNewer = hasNewer || r.IsNewer && r.hasPlaces()
	}
	left, must := count, min(need, count)
	for _, step := range []struct{ older, all, beyond bool }{
		{false, true, false}, {true, false, false}, {false, false, true}, {true, false, true},
	} {
		n := left
		if !step.all {
			n = min(left, must)
		}
		limits := make([]int, len(rooms))
		for i, r := range rooms {
			switch {
			case hasNewer && !r.IsNewer && !step.older:
			case step.beyond:
				limits[i] = r.Places
			default:
				limits[i] = min(r.Places, r.Connects)
			}
		}
		done := fillRooms(rooms, limits, given, n)
		left, must = left-done, must-done
	}
	return given
}

// fillRooms adds up to n connections to given, in proportion to places, and up to the limit of each
// room. It returns how many there was room for.
func fillRooms(rooms []Room, limits, given []int, n int) (done int) {
	for done < n {
		places, first := 0, -1
		for i, r := range rooms {
			if given[i] < limits[i] {
				places += r.Places
				if first < 0 {
					first = i
				}
			}
		}
		if first < 0 {
			return done
		}
		some := 0
		for i, r := range rooms {
			if given[i] < limits[i] {
				k := min((n-done)*r.Places/places, limits[i]-given[i])
				given[i] += k
				some += k
			}
		}
		if some == 0 { // fewer connections than rooms
			given[first]++
			some = 1
		}
		done += some
	}
	return done
}
