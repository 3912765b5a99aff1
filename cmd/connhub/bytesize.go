package main

import (
	"encoding"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// byteSize is a number of bytes, written "1048576", "1024KiB" or "1MiB".
type byteSize int64

var (
	_ encoding.TextUnmarshaler = (*byteSize)(nil)
	_ encoding.TextMarshaler   = byteSize(0)
)

var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// UnmarshalText reads the forms above.
func (b *byteSize) UnmarshalText(text []byte) error {
	number, unit := string(text), int64(1)
	for _, u := range byteUnits {
		if s, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(s), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is not a size such as 65536, 64KiB or 4MiB", text)
	}
	*b = byteSize(n * unit)
	return nil
}

// MarshalText writes the largest unit that leaves a whole number.
func (b byteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func (b byteSize) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 && u.size > 1 {
			return fmt.Sprintf("%d%s", int64(b)/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
