package edge

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"unicode/utf8"

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
