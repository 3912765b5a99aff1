//go:build bench && linux

package engine

import "fmt"

const (
	// ownFloor is the floor of Go's collector itself: with it a binary collects as without a floor.
	ownFloor = "4MiB"
	// sendsBetweenCollections is the number of sends to a client in a round. It is so large that
	// the collector of a binary with the floor runs in each round.
	sendsBetweenCollections = 40
)

// measureHeapFloor measures unicasts of the binary with its floor of the heap, beside those of a
// binary whose floor is Go's own. CPU is that of the binary which sends.
func measureHeapFloor() ([]row, error) {
	var binaries []*blackBox
	for _, flags := range [][]string{{alone}, {alone, "--heap-floor", ownFloor}} {
		shipped, err := startBinary(flags...)
		if err != nil {
			return nil, err
		}
		defer shipped.kill()
		binaries = append(binaries, shipped)
	}
	with, without := binaries[0], binaries[1]
	b, err := newEmptyBed(with)
	if err != nil {
		return nil, err
	}
	if err := b.bring(users, clientPath(), with.Clients, without.Clients); err != nil {
		return nil, err
	}
	var rows []row
	for _, w := range ways(with.Control) {
		w.call.Count = sendsBetweenCollections * users
		beside := w.call
		beside.Address, beside.First = without.Control, users
		floor, own := b.unicast(w.call), b.unicast(beside)
		floor.clock, own.clock = cpu(with), cpu(without)
		took, err := rounds(nil, shapePairs, floor, own)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		rows = append(rows, ratio(w.name, w.call.Count, took, 0))
	}
	for i, name := range []string{"memory of the hub", "  with Go's own floor"} {
		seen, err := binaries[i].metrics(residentMemory)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{Name: name, Value: seen[0] / 1e6, Unit: "MB"})
	}
	return rows, b.load.stop()
}
