package load

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// StampSize is how many bytes a stamp takes of a payload: text, so that it fits in a message of any kind.
const StampSize = 2 * stampBytes

// stampBytes are four of the run, eight of the time in nanoseconds, four of the sequence.
const stampBytes = 4 + 8 + 4

// Rehearsal is the sequence of messages that are counted apart and not measured: what is sent before the measurement.
const Rehearsal uint32 = 0

// Stamp marks the messages of one run, so that a client knows them and when they were sent. It may be used by many
// goroutines.
type Stamp struct {
	run     [4]byte
	started time.Time
}

// NewStamp returns one whose time begins now.
func NewStamp() *Stamp {
	s := &Stamp{started: time.Now()}
	_, _ = rand.Read(s.run[:]) // never fails: crypto/rand ends the process instead
	return s
}

// Now is the time since the stamp was made, by the clock that is never set.
func (s *Stamp) Now() time.Duration { return time.Since(s.started) }

// Append appends the stamp of a message that is sent at a time of Now.
func (s *Stamp) Append(dst []byte, at time.Duration, sequence uint32) []byte {
	raw := make([]byte, 0, stampBytes)
	raw = append(raw, s.run[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at))
	raw = binary.BigEndian.AppendUint32(raw, sequence)
	return hex.AppendEncode(dst, raw)
}

// read takes apart what a message begins with. It reports false when it is not of this run.
func (s *Stamp) read(head []byte) (at time.Duration, sequence uint32, ok bool) {
	var raw [stampBytes]byte
	if len(head) < StampSize {
		return 0, 0, false
	}
	if _, err := hex.Decode(raw[:], head[:StampSize]); err != nil || [4]byte(raw[:4]) != s.run {
		return 0, 0, false
	}
	return time.Duration(binary.BigEndian.Uint64(raw[4:])), binary.BigEndian.Uint32(raw[12:]), true
}
