//go:build bench && linux

package engine

import (
	"bytes"
	"fmt"
	"time"
)

// burst is the number of messages that are sent at once.
const burst = 8

// coalesced has the frames of a burst, as a plain client gets them in a single write.
var coalesced = bytes.Repeat(textFrame, burst)

// measureBurst measures several messages to all clients at once, beside a single write of all of
// them.
func measureBurst() ([]row, error) {
	b, err := newBed(reference())
	if err != nil {
		return nil, err
	}
	groups := manyGroups()
	if err := b.open(opening{Path: clientPath(groups...), Count: audience}); err != nil {
		return nil, err
	}
	var rows []row
	for _, way := range []struct {
		name   string
		call   call
		target float64
	}{
		{"a batch of 8 to one group, SendStream", call{Count: burst, Batch: burst}, 1.25},
		{"a batch of 8 to 8 groups, SendStream", call{
			Count: burst, Batch: burst, Groups: groups,
		}, 1.4},
		{"8 calls of Send at once", call{Count: burst, Unary: true}, 2.3},
	} {
		var took [][]time.Duration
		if took, err = rounds(
			cpuTime, pairs, b.several(way.call), b.raw(audience, coalesced),
		); err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		rows = append(rows, ratio(way.name, audience*burst, took, way.target))
	}
	return rows, b.end()
}

// manyGroups returns a group for each message of a burst.
func manyGroups() (groups []string) {
	for i := range burst {
		groups = append(groups, fmt.Sprintf("group-%d", i))
	}
	return groups
}

// several is a call with all its sends at once, to all clients unless c has groups.
func (b *bed) several(c call) variant {
	c.Address, c.InFlight, c.Text, c.Matched = b.backends, c.Count, string(text), audience
	if c.Groups == nil {
		c.Groups = []string{shared}
	}
	return b.calling(c, audience, c.Count*len(textFrame))
}
