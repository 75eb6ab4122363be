package quorate

import "fmt"

// Consistency says how current the answer to a query is (PROTOCOL 24).
type Consistency uint8

const (
	// ConsistencyDefault shows every write that was acknowledged before the
	// query began, as far as this node's map of the cluster tells where to look.
	ConsistencyDefault Consistency = iota
	// ConsistencyStrong is the default with a map that is known to be current:
	// without the metadata leader the query fails instead of warning.
	ConsistencyStrong
	// ConsistencyStale takes whatever a replica has, without asking its leader,
	// and says how far that may lag.
	ConsistencyStale
)

// ParseConsistency parses what String prints; empty is the default. The error
// is of kind Invalid and names what there is.
func ParseConsistency(s string) (Consistency, error) {
	switch s {
	case "", "default":
		return ConsistencyDefault, nil
	case "strong":
		return ConsistencyStrong, nil
	case "stale":
		return ConsistencyStale, nil
	}
	return 0, Errorf(Invalid, "consistency %q is none of default, strong and stale", s)
}

// String prints the name that requests give it by.
func (c Consistency) String() string {
	switch c {
	case ConsistencyDefault:
		return "default"
	case ConsistencyStrong:
		return "strong"
	case ConsistencyStale:
		return "stale"
	}
	return fmt.Sprintf("Consistency(%d)", uint8(c))
}
