package edge

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
)

// unregisteredMetrics returns instruments that no Registerer has.
func unregisteredMetrics() *metrics {
	m, _ := newMetrics(nil) // fails only for a Registerer that has them
	return m
}

// Text in any pieces is judged like the whole, and no later than at the first byte that can't be
// right.
func FuzzTextIsJudgedAtTheFirstBadByte(f *testing.F) {
	f.Add([]byte("aé€🙂"))
	f.Add([]byte("\xed\xa0\x80"))
	f.Add([]byte("\xf0\x9f\x99"))
	f.Add([]byte("ok\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := &counting{r: iotest.OneByteReader(bytes.NewReader(text))}
		m := &message{bytes: make([]byte, 0, 1)}
		err := m.readToEnd(hub.Text, r, byteByByte{})
		if (err == nil) != utf8.Valid(text) {
			t.Fatalf("%q: %v", text, err)
		}
		if err == nil {
			if !bytes.Equal(m.bytes, text) {
				t.Fatalf("got %q, want %q", m.bytes, text)
			}
			return
		}
		// The shortest beginning that nothing can make valid.
		bad := 0
		for bad < len(text) && canBecomeText(text[:bad]) {
			bad++
		}
		if r.n > bad {
			t.Fatalf("%q: %d bytes read, bad from %d", text, r.n, bad)
		}
	})
}

// byteByByte is an origin with room for every message.
type byteByByte struct{}

func (byteByByte) nextReadSize() int        { return 1 }
func (byteByByte) reserveBudget(int64) bool { return true }

// counting counts the bytes read through it.
type counting struct {
	r io.Reader
	n int
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// canBecomeText is the dumb model: p is valid, or up to three continuation bytes make it so.
func canBecomeText(p []byte) bool {
	if utf8.Valid(p) {
		return true
	}
	for _, more := range []string{
		"\x80", "\xbf", "\x90", "\xa0", "\x80\x80", "\x90\x80",
		"\xa0\x80", "\x80\x80\x80", "\x90\x80\x80",
	} {
		if utf8.Valid(append(bytes.Clone(p), more...)) {
			return true
		}
	}
	return false
}

func TestReadGivesBackWhatTheWireFailedWith(t *testing.T) {
	m := &message{bytes: make([]byte, 0, 1)}
	err := m.readToEnd(hub.Binary, io.MultiReader(bytes.NewReader([]byte("abc")),
		iotest.ErrReader(io.ErrClosedPipe)), byteByByte{})
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

// Each link is looked at once, in the second that it asks for, in whatever order links come and go.
func TestWheelLooksAtEachLinkInItsSecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const slots = 8
		s := &Server{config: Config{}, started: time.Now()}
		h := &heartbeat{server: s, slots: make([]*link, slots), stop: make(chan struct{})}
		want := map[*link]int{} // the model: in which second
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				l := &link{}
				due := time.Duration(rapid.IntRange(0, 12_000).Draw(t, "due")) * time.Millisecond
				h.links++
				h.insertLocked(l, due)
				second := int((due + tick - 1) / tick)
				want[l] = min(max(second, h.second+1), h.second+slots-1)
			case 1:
				for l := range want {
					h.links++ // so that remove never stops a goroutine that does not run
					h.removeLink(l)
					delete(want, l)
					break
				}
			case 2:
				s.started = time.Now().Add(-time.Duration(h.second+1) * tick) // a second later
				due, ok := h.takeDue(nil)
				if !ok {
					t.Fatal("nothing is due")
				}
				for _, l := range due {
					if want[l] != h.second {
						t.Fatalf("second %d: a link of second %d", h.second, want[l])
					}
					delete(want, l)
				}
				for _, second := range want {
					if second <= h.second {
						t.Fatalf("second %d: a link of second %d is still waiting", h.second,
							second)
					}
				}
			}
		}
	})
}

func TestEveryReasonHasARow(t *testing.T) {
	seen := map[string]bool{}
	for r := reason(1); r < reasonEnd; r++ {
		row := reasons[r]
		if row.status < 400 || row.code == "" || row.detail == "" || seen[row.code] {
			t.Errorf("reason %d: %+v", r, row)
		}
		seen[row.code] = true
	}
}
