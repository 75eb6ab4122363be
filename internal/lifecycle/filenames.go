package lifecycle

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/quorate/quorate"
)

// setID shortens the type that keys this package's tables.
type setID = quorate.ReplicaSetID

// Directories below the data directory. Names below them are built of numbers
// only, never of a tenant's name.
const (
	// SetsDir has a directory for the blocks of each replica.
	SetsDir = "sets"
	// TrashDir has what was given up, until the trash is emptied.
	TrashDir = "trash"

	// trashedSets is the part of an entry of the trash that came from SetsDir.
	trashedSets = "sets"
	// damagedSuffix ends the name of a canonical file that is not what its
	// hash says, and that can be built anew.
	damagedSuffix = ".damaged"
)

// setDir is where a replica's shard keeps its files.
func setDir(dataDir string, set setID, replica quorate.ReplicaID) string {
	return filepath.Join(dataDir, SetsDir, fmt.Sprintf("%d-%d", set, replica))
}

// trashName names an entry of the trash. The count tells entries apart that
// one replica made in one millisecond.
func trashName(ms int64, set setID, replica quorate.ReplicaID, count int) string {
	name := fmt.Sprintf("%d-set-%d-%d", ms, set, replica)
	if count > 0 {
		name += fmt.Sprintf(".%d", count)
	}
	return name
}

// parseTrashName returns when an entry of the trash was made. Names of another
// form are not the trash's.
func parseTrashName(name string) (ms int64, ok bool) {
	digits, rest, found := strings.Cut(name, "-set-")
	ms, err := strconv.ParseInt(digits, 10, 64)
	if !found || err != nil || ms < 0 {
		return 0, false
	}
	var set setID
	var replica quorate.ReplicaID
	count := 0
	rest, number, counted := strings.Cut(rest, ".")
	if counted {
		if count, err = strconv.Atoi(number); err != nil || count < 1 {
			return 0, false
		}
	}
	if n, err := fmt.Sscanf(rest, "%d-%d", &set, &replica); err != nil || n != 2 {
		return 0, false
	}
	return ms, trashName(ms, set, replica, count) == name
}
