package load

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// StampSize is the number of bytes that a stamp takes of a payload. A stamp is text, so that it
// fits in a message of any kind.
const StampSize = 2 * stampBytes

// stampBytes is the size of a stamp before it is written as hexadecimal digits: four bytes of the
// run, eight of the time in nanoseconds, four of the sequence.
const stampBytes = 4 + 8 + 4

// Rehearsal is the sequence of messages that are sent before the measurement. Clients count them
// apart and do not measure them.
const Rehearsal uint32 = 0

// Stamp marks the messages of a run, so that a client recognizes them and knows when they were
// sent. It is safe for concurrent use.
type Stamp struct {
	run     [4]byte
	started time.Time
}

// NewStamp returns the stamp of a new run. Its time begins now.
func NewStamp() *Stamp {
	s := &Stamp{started: time.Now()}
	_, _ = rand.Read(s.run[:]) // never fails: crypto/rand ends the process instead
	return s
}

// Now returns the time since NewStamp, by the monotonic clock.
func (s *Stamp) Now() time.Duration { return time.Since(s.started) }

// Append appends the stamp of a message to dst. at is the time of sending, by Now.
func (s *Stamp) Append(dst []byte, at time.Duration, sequence uint32) []byte {
	raw := make([]byte, 0, stampBytes)
	raw = append(raw, s.run[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(at))
	raw = binary.BigEndian.AppendUint32(raw, sequence)
	return hex.AppendEncode(dst, raw)
}

// parseStamp parses the first bytes of a message. ok is false if they are no stamp of this run.
func (s *Stamp) parseStamp(head []byte) (at time.Duration, sequence uint32, ok bool) {
	var raw [stampBytes]byte
	if len(head) < StampSize {
		return 0, 0, false
	}
	if _, err := hex.Decode(raw[:], head[:StampSize]); err != nil || [4]byte(raw[:4]) != s.run {
		return 0, 0, false
	}
	sentAt := binary.BigEndian.Uint64(raw[4:])
	return time.Duration(sentAt), binary.BigEndian.Uint32(raw[12:]), true
}
