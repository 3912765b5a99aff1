package main

import (
	"strings"
	"testing"
)

func TestBudgetsAboveTheMemoryLimitAreRefused(t *testing.T) {
	t.Setenv("CONNHUB_HELD_BYTES", "1024GiB") // no machine that runs this has so much
	c, err := parse(t, "serve", "--insecure-dev", "--single-hub")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Serve.planHub()
	if err == nil || !strings.Contains(err.Error(), "above the memory limit of") ||
		!strings.Contains(err.Error(), "--held-bytes 1024GiB") {
		t.Errorf("got %v", err)
	}
}

func TestAHeapFloorWithoutEffectOrRoomIsRefused(t *testing.T) {
	for _, c := range []struct{ floor, gogc, want string }{
		{"1024GiB", "", "--heap-floor 1024GiB is above half of the memory limit of"},
		{"1MiB", "", "--heap-floor is 1048576, must be at least 4194304"},
		{"16MiB", "100", "--heap-floor has no effect beside GOGC"},
		{"16MiB", "", ""},
	} {
		t.Setenv("GOGC", c.gogc)
		line, err := parse(t, "serve", "--insecure-dev", "--single-hub", "--heap-floor="+c.floor)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := line.Serve.planHub()
		if c.want == "" {
			if err != nil || plan.Heap.FloorBytes != 16<<20 {
				t.Errorf("%+v: a floor of %d, %v", c, plan.Heap.FloorBytes, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

func TestANamespaceHasHalfOfWhatTheHubHoldsUnlessAFlagSaysMore(t *testing.T) {
	for _, c := range []struct {
		flags           []string
		held, namespace int64
	}{
		{[]string{"--held-bytes=64MiB"}, 64 << 20, 32 << 20},
		{[]string{"--held-bytes=64MiB", "--namespace-held-bytes=50MiB"}, 64 << 20, 50 << 20},
	} {
		p := planServe(t, append(c.flags, "--insecure-dev", "--single-hub")...)
		if p.Hub.HeldBytes != c.held || p.Hub.NamespaceHeldBytes != c.namespace {
			t.Errorf("%q: %d and %d", c.flags, p.Hub.HeldBytes, p.Hub.NamespaceHeldBytes)
		}
	}
}
