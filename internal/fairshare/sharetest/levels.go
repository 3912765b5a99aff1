// Package sharetest checks fair shares in tests, by a dumb count of the bytes at each level.
package sharetest

import (
	"fmt"
	"maps"
	"slices"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/fairshare"
)

// Holder is a holder in tests.
type Holder = fairshare.Holder[int]

// sumBytes adds up the bytes of holders that have the same key.
func sumBytes(holders []Holder, key func(Holder) string) map[string]int64 {
	all := make(map[string]int64)
	for _, h := range holders {
		all[key(h)] += h.Bytes
	}
	return all
}

// InNamespace is the key of a holder's namespace.
func InNamespace(h Holder) string { return h.Namespace }

// InUser is the key of a holder's user; without a user, the holder is a user of its own.
func InUser(h Holder) string {
	if h.User == "" {
		return fmt.Sprintf("%s %d", h.Namespace, h.Of)
	}
	return h.Namespace + "/" + h.User
}

// InCommon returns the holders that have the key in common with h.
func InCommon(holders []Holder, h Holder, key func(Holder) string) (some []Holder) {
	for _, o := range holders {
		if key(o) == key(h) {
			some = append(some, o)
		}
	}
	return some
}

// CheckLevels fails unless h is a holder that may pay next: at each level it is the largest. Where
// holders share bytes it may be smaller, but not below the average of the holders at first.
func CheckLevels(t *rapid.T, atFirst, holders []Holder, h Holder) {
	byID := func(h Holder) string { return fmt.Sprint(h.Of) }
	for _, level := range []struct {
		what        string
		within, key func(Holder) string
		exact       bool
	}{
		{"namespace", func(Holder) string { return "" }, InNamespace, true},
		{"user", InNamespace, InUser, false},
		{"connection", InUser, byID, false},
	} {
		there := InCommon(holders, h, level.within)
		now := sumBytes(there, level.key)
		mine, largest := now[level.key(h)], slices.Max(slices.Collect(maps.Values(now)))
		if mine == largest {
			continue
		}
		shared := slices.ContainsFunc(there, func(o Holder) bool { return o.Shared })
		if level.exact || !shared {
			t.Fatalf("%+v pays: its %s holds %d, another one %d", h, level.what, mine, largest)
		}
		before := sumBytes(InCommon(atFirst, h, level.within), level.key)
		all := int64(0)
		for _, bytes := range before {
			all += bytes
		}
		if mine*int64(len(before)) < all {
			t.Fatalf("%+v pays: its %s holds %d, below the average of %d, and another one %d",
				h, level.what, mine, all/int64(len(before)), largest)
		}
	}
}
