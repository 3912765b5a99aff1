package limits

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSharesOfFilesNeverExceedTheLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.OneOf(rapid.IntRange(0, 4096), rapid.IntRange(0, 1<<31-1)).Draw(t, "limit")
		etcd := rapid.Bool().Draw(t, "etcd")
		own := ownFiles
		if etcd {
			own += etcdFiles
		}
		f, err := ShareFiles(limit, etcd)
		least := own + leastOps + leastControl + leastPeers + leastStrangers + leastLinks
		if (err != nil) != (limit < least) {
			t.Fatalf("limit %d, want an error below %d: %v", limit, least, err)
		}
		if err != nil {
			return
		}
		if sum := own + f.Ops + f.Control + f.peers + f.Strangers + f.Links; sum > limit {
			t.Errorf("the shares of %d add up to %d: %+v", limit, sum, f)
		}
		if f.Ops < leastOps || f.Control < leastControl ||
			f.peers < leastPeers || f.Strangers < leastStrangers || f.Links < leastLinks {
			t.Errorf("a share is too small: %+v", f)
		}
		if limit >= 1024 && f.Links < limit*3/5 {
			t.Errorf("of %d files %d are for clients", limit, f.Links)
		}
	})
}

func TestALimitOfFilesThatServesNobodyIsRefusedWithTheNumberThatIsNeeded(t *testing.T) {
	_, err := ShareFiles(64, false)
	if err == nil || !strings.Contains(err.Error(), "is 64 (ulimit -n), want at least 104") {
		t.Errorf("got %v", err)
	}
}
