package form

import (
	"math"
)

// ClampCount returns n as the API's int32, at most math.MaxInt32.
func ClampCount(n int) int32 { return int32(min(n, math.MaxInt32)) }

// AddCounts returns a + b, at most math.MaxInt32.
func AddCounts(a, b int32) int32 { return int32(min(int64(a)+int64(b), math.MaxInt32)) }
