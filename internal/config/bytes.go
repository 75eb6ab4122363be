package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Bytes is an amount of memory or disk.
type Bytes int64

// The binary units in which sizes are written.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
)

// byteUnits are tried in this order, so that "MiB" is not read as a number that
// ends in "B". The decimal units mean powers of ten, as their names say.
var byteUnits = []struct {
	suffix string
	size   Bytes
}{
	{"KiB", KiB}, {"MiB", MiB}, {"GiB", GiB},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9},
	{"B", 1},
}

// ParseBytes parses a whole number with an optional unit: B (the default), KiB,
// MiB, GiB, or the decimal KB, MB, GB.
func ParseBytes(text string) (Bytes, error) {
	number, unit := text, Bytes(1)
	for _, u := range byteUnits {
		if before, found := strings.CutSuffix(text, u.suffix); found {
			number, unit = strings.TrimRight(before, " "), u.size
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > math.MaxInt64/uint64(unit) {
		return 0, fmt.Errorf("%q is not a size such as 512KiB, 64MiB or 1GiB", text)
	}
	return Bytes(n) * unit, nil
}

// String prints the size in the largest binary unit that divides it.
func (b Bytes) String() string {
	switch {
	case b == 0:
		return "0B"
	case b%GiB == 0:
		return fmt.Sprintf("%dGiB", b/GiB)
	case b%MiB == 0:
		return fmt.Sprintf("%dMiB", b/MiB)
	case b%KiB == 0:
		return fmt.Sprintf("%dKiB", b/KiB)
	}
	return fmt.Sprintf("%dB", int64(b))
}
