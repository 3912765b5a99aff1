package load

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestManyClientsComeFromSeveralLoopbackAddresses(t *testing.T) {
	loopback, elsewhere := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")
	for _, tt := range []struct {
		i, n int
		to   netip.Addr
		want string
	}{
		{19_999, 20_000, loopback, ""},
		{0, 20_001, loopback, ""},
		{19_999, 20_001, loopback, ""},
		{20_000, 20_001, loopback, "127.0.0.2:0"},
		{59_999, 60_000, loopback, "127.0.0.3:0"},
		{6_000_000, 7_000_000, loopback, "127.0.1.45:0"},
		{20_000, 20_001, elsewhere, ""},
		{20_000, 20_001, netip.IPv6Loopback(), ""},
	} {
		got := ""
		if a := sourceOf(tt.i, tt.n, tt.to); a != nil {
			got = a.String()
		}
		if got != tt.want {
			t.Errorf(
				"client %d of %d to %s comes from %q, want %q", tt.i, tt.n, tt.to, got, tt.want,
			)
		}
	}
}

func TestTooFewFilesAreSaidBeforeAnythingIsOpened(t *testing.T) {
	if err := checkFileLimit(1000, 0); err != nil {
		t.Errorf("without a known limit: %v", err)
	}
	if err := checkFileLimit(960, 1024); err != nil {
		t.Errorf("with enough: %v", err)
	}
	err := checkFileLimit(961, 1024)
	const want = "961 connections need 1025, and 1024 are allowed"
	if !errors.Is(err, ErrFileLimit) || !strings.Contains(err.Error(), want) {
		t.Errorf("with one too few: %v", err)
	}
	if err := dialError(syscall.EMFILE); !errors.Is(err, ErrFileLimit) {
		t.Errorf("EMFILE is %v", err)
	}
}

func TestStampsTellWhatIsOfThisRun(t *testing.T) {
	s := NewStamp()
	text := s.Append([]byte("<"), 1234567890*time.Nanosecond, 77)
	if len(text) != 1+StampSize {
		t.Errorf("a stamp of %d bytes, want %d", len(text)-1, StampSize)
	}
	at, sequence, ok := s.parseStamp(append(text[1:], "xxxx"...))
	if at != 1234567890 || sequence != 77 || !ok {
		t.Errorf("read %v, %d, %v", at, sequence, ok)
	}
	for name, head := range map[string]string{
		"another run's": string(NewStamp().Append(nil, 0, 1)),
		"a short":       string(text[1:StampSize]),
		"no":            strings.Repeat("x", StampSize),
		"an empty":      "",
	} {
		if _, _, ok := s.parseStamp([]byte(head)); ok {
			t.Errorf("%s stamp is taken for ours", name)
		}
	}
}

func TestHistogramsAreExactToAThousandth(t *testing.T) {
	h := NewHistogram()
	if got := h.Latency(); got != (Latency{}) {
		t.Errorf("empty: %+v", got)
	}
	for i := range 1000 {
		h.Record(time.Duration(i+1) * time.Millisecond)
	}
	near := func(name string, got, want time.Duration) {
		if diff := got - want; diff < 0 || diff > want/500 {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	got := h.Latency()
	near("p50", got.P50, 500*time.Millisecond)
	near("p99", got.P99, 990*time.Millisecond)
	near("max", got.Max, time.Second)
	h.Record(-time.Second)
	h.Record(time.Hour)
	if got := h.Latency(); got.Count != 1002 || got.Max < longest || got.Max > longest+longest/500 {
		t.Errorf("with values out of bounds: %+v", got)
	}
}
