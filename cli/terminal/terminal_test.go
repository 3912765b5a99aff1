package terminal

import (
	"bytes"
	"testing"
	"time"
)

func TestAgesAreSaidInTheirLargestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 0: "now", 999 * time.Millisecond: "now", time.Second: "1s ago",
		59 * time.Second: "59s ago",
		time.Minute:      "1m ago", 59*time.Minute + 59*time.Second: "59m ago", time.Hour: "1h ago",
		23 * time.Hour: "23h ago",
		24 * time.Hour: "1d ago", 400 * 24 * time.Hour: "400d ago",
	} {
		if got := AgeWords(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	if WantsColour(&bytes.Buffer{}) {
		t.Error("a buffer is no terminal")
	}
	if got := (Palette{}).RedText("x"); got != "x" {
		t.Errorf("without colours: %q", got)
	}
}
