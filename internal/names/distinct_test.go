package names

import (
	"slices"
	"testing"
)

func TestDistinctKeepsTheFirstOfEachName(t *testing.T) {
	got, want := Distinct([]string{"b", "a", "b", "a", "c"}), []string{"b", "a", "c"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
