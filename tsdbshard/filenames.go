package tsdbshard

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/quorate/quorate/internal/wire"
)

const deltaSuffix = ".qdelta"

// deltaNameHashBytes is how much of a block's hash its name has. Two replicas
// may write different bytes for one interval, so that the interval alone would
// name different files alike; and a replica takes in files of others.
const deltaNameHashBytes = 8

// deltaFileName names the delta block of the log interval (lo, hi] with a hash:
// lo "-" hi "-" the hash's first 8 bytes ".qdelta", the indexes as 20 decimal
// digits, the bytes as 16 hexadecimal ones.
func deltaFileName(lo, hi uint64, hash [sha256.Size]byte) string {
	return fmt.Sprintf("%020d-%020d-%x%s", lo, hi, hash[:deltaNameHashBytes], deltaSuffix)
}

// isDeltaFileName tells whether a name is one that deltaFileName makes.
func isDeltaFileName(name string) bool {
	parts := strings.Split(strings.TrimSuffix(name, deltaSuffix), "-")
	if len(parts) != 3 {
		return false
	}
	lo, errLo := strconv.ParseUint(parts[0], 10, 64)
	hi, errHi := strconv.ParseUint(parts[1], 10, 64)
	prefix, errHash := hex.DecodeString(parts[2])
	if errLo != nil || errHi != nil || errHash != nil || len(prefix) != deltaNameHashBytes {
		return false
	}
	var hash [sha256.Size]byte
	copy(hash[:], prefix)
	return name == deltaFileName(lo, hi, hash)
}

// SealedFileName names a canonical block by its hash: "sealed-" 64 hexadecimal
// digits ".qblock".
func SealedFileName(f wire.SealedFile) string { return fmt.Sprintf("sealed-%x.qblock", f.Hash) }

// unsealedFileName is the name of a canonical block before it was read back.
const unsealedFileName = "unsealed.qblock"

// unnamedFileName is the name of a delta block while its hash is not known.
const unnamedFileName = "unnamed.qblock"

// isPassingFileName tells names that no record ever names.
func isPassingFileName(name string) bool { return name == unsealedFileName || name == unnamedFileName }
