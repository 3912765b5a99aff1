package fairshare_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/fairshare"
	"github.com/connhub/connhub/internal/fairshare/sharetest"
)

// In every state the next to pay is the largest at each level. With bytes that many share it may be
// a smaller holder, but none below its fair share.
func TestSharesTakeFromTheLargestAtEachLevel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sharing := rapid.Bool().Draw(t, "some share")
		var holders []fairshare.Holder[int]
		var shares fairshare.Shares[int]
		for i := range rapid.IntRange(0, 40).Draw(t, "holders") {
			h := fairshare.Holder[int]{
				Of:        i,
				Namespace: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace"),
				User:      rapid.SampledFrom([]string{"", "ann", "bob", "cat"}).Draw(t, "user"),
				Bytes:     rapid.Int64Range(0, 10).Draw(t, "bytes"),
				Shared:    sharing && rapid.Bool().Draw(t, "shared"),
				First:     rapid.Bool().Draw(t, "first"),
			}
			h.Bytes *= rapid.SampledFrom([]int64{1, 1000}).Draw(t, "unit")
			shares.Add(h)
			if h.Bytes > 0 {
				holders = append(holders, h)
			}
		}
		atFirst := slices.Clone(holders)
		for len(holders) > 0 {
			h, ok := shares.Next()
			if !ok {
				t.Fatalf("%d holders are left", len(holders))
			}
			i := slices.Index(holders, h)
			if i < 0 {
				t.Fatalf("%+v is unknown, or has paid", h)
			}
			sharetest.CheckLevels(t, atFirst, holders, h)
			for _, o := range sharetest.InCommon(holders, h, sharetest.InUser) {
				if !h.First && o.First && o.Bytes == h.Bytes && o.Shared == h.Shared {
					t.Fatalf("%+v pays before %+v", h, o)
				}
			}
			holders = slices.Delete(holders, i, i+1)
		}
		if h, ok := shares.Next(); ok {
			t.Fatalf("nobody is left, but %+v pays", h)
		}
	})
}
