package terminal

import (
	"bytes"
	"io"
	"testing"
	"time"
)

func TestProgressIsShownAfterAMomentAndGoesAway(t *testing.T) {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	p := &Progress{out: &out, width: 80, since: noon, total: 1000}
	p.ShowLines(noon.Add(progressAfter-1), 10, 0, 10)
	p.ClearLine()
	if out.Len() > 0 {
		t.Errorf("too early: %q", out.String())
	}
	for _, tt := range []struct {
		after              time.Duration
		done, failed, read int64
		width              int
		total              int64
		want               string
	}{
		{time.Second, 100, 0, 10, 80, 1000, "100 lines sent · 100/s · 1s · 1%"},
		{
			90 * time.Second, 89_999, 1, 2000, 80, 1000,
			"89999 lines sent · 1 failed · 1000/s · 1m · 100%",
		},
		{time.Second, 1, 0, 10, 80, 0, "1 line sent · 1/s · 1s"},
		{time.Second, 100, 0, 10, 11, 0, "100 lines…"},
	} {
		out.Reset()
		p.width, p.total = tt.width, tt.total
		p.ShowLines(noon.Add(tt.after), tt.done, tt.failed, tt.read)
		if want := "\r\x1b[K" + tt.want; out.String() != want {
			t.Errorf("shown %q, want %q", out.String(), want)
		}
	}
	out.Reset()
	p.ClearLine()
	p.ClearLine()
	if out.String() != "\r\x1b[K" {
		t.Errorf("cleared by %q", out.String())
	}
	none := New(nil, io.Discard, io.Discard).NewProgress(nil)
	none.ShowLines(time.Now().Add(time.Hour), 1, 1, 1) // no terminal
}
