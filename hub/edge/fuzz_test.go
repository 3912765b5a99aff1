package edge_test

import (
	"io"
	"testing"
	"testing/synctest"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// No bytes of a client after the upgrade make the hub panic. The client gets well-formed frames.
// The last of them is a close frame, for the client's fault or for its silence.
func FuzzAnyBytesEndInAClose(f *testing.F) {
	for _, v := range violations {
		if len(v.bytes) < 4<<10 { // larger ones slow the fuzzer down
			f.Add([]byte(v.bytes))
		}
	}
	f.Add([]byte(masked(0x81, "hello") + masked(0x89, "ping") + masked(0x02, "a") +
		masked(0x80, "b")))
	f.Add([]byte(masked(0x88, "") + masked(0x81, "late")))
	f.Add([]byte(masked(0x88, "\x03\xe8bye")))
	f.Fuzz(func(t *testing.T, bytes []byte) {
		synctest.Test(t, func(t *testing.T) {
			l := newMemory()
			b := newBed(t, l, l.dial, smallMessages)
			defer b.done()
			c := b.upgrade("", "")
			b.waitAttached(1)
			b.send(everyone, hub.Text, "meanwhile")
			go func() { _, _ = c.conn.Write(bytes) }() // it may be cut off
			e := c.end()
			if e.err != nil || !e.closed {
				t.Errorf("ended with %+v", e)
			}
			_, _ = io.Copy(io.Discard, c.conn)
			waitUntilEmpty(b)
			if got := b.causes.all(); len(got) != 1 || got[0].Cause == cause.Internal ||
				got[0].Cause == cause.Lost {
				t.Errorf("closes %+v", got)
			}
		})
	})
}
