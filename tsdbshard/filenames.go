package tsdbshard

import (
	"fmt"

	"github.com/quorate/quorate/internal/wire"
)

// deltaFileName names the delta block of the log interval (lo, hi]:
// lo "-" hi ".qdelta", both as 20 decimal digits.
func deltaFileName(lo, hi uint64) string { return fmt.Sprintf("%020d-%020d.qdelta", lo, hi) }

// isDeltaFileName tells whether a name is one that deltaFileName makes.
func isDeltaFileName(name string) bool {
	var lo, hi uint64
	n, err := fmt.Sscanf(name, "%d-%d.qdelta", &lo, &hi)
	return err == nil && n == 2 && name == deltaFileName(lo, hi)
}

// SealedFileName names a canonical block by its hash: "sealed-" 64 hexadecimal
// digits ".qblock".
func SealedFileName(f wire.SealedFile) string { return fmt.Sprintf("sealed-%x.qblock", f.Hash) }

// unsealedFileName is the name of a canonical block before it was read back.
const unsealedFileName = "unsealed.qblock"

func isUnsealedFileName(name string) bool { return name == unsealedFileName }
