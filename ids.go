package quorate

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
)

// ClusterID names one cluster for ever. It is minted at random by the first
// node's first start and recorded as the first entry of the metadata log.
type ClusterID [16]byte

// NewClusterID mints a random ClusterID.
func NewClusterID() ClusterID {
	var id ClusterID
	rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// ParseClusterID parses the 32 hexadecimal digits that String prints.
func ParseClusterID(s string) (ClusterID, error) {
	var id ClusterID
	if err := parseHex(id[:], s); err != nil {
		return ClusterID{}, fmt.Errorf("cluster id %q: %w", s, err)
	}
	return id, nil
}

// String prints the id as 32 hexadecimal digits.
func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText prints the id as String does, in JSON and logs.
func (id ClusterID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// IsZero tells whether no id was ever minted.
func (id ClusterID) IsZero() bool { return id == ClusterID{} }

// Incarnation tells one life of a node from another under the same name. It is
// minted at random when a node first starts on an empty data directory and is
// kept there, so that a replaced machine is a new member (PROTOCOL 1).
type Incarnation [16]byte

// NewIncarnation mints a random Incarnation.
func NewIncarnation() Incarnation {
	var inc Incarnation
	rand.Read(inc[:]) // never fails since Go 1.24
	return inc
}

// ParseIncarnation parses the 32 hexadecimal digits that String prints.
func ParseIncarnation(s string) (Incarnation, error) {
	var inc Incarnation
	if err := parseHex(inc[:], s); err != nil {
		return Incarnation{}, fmt.Errorf("incarnation %q: %w", s, err)
	}
	return inc, nil
}

// String prints the incarnation as 32 hexadecimal digits.
func (inc Incarnation) String() string { return hex.EncodeToString(inc[:]) }

// MarshalText prints the incarnation as String does, in JSON and logs.
func (inc Incarnation) MarshalText() ([]byte, error) { return []byte(inc.String()), nil }

func parseHex(dst []byte, s string) error {
	if len(s) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("want %d hexadecimal digits, got %d bytes", hex.EncodedLen(len(dst)), len(s))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

// NodeID names one process of the cluster: its configured name and the
// incarnation of its data directory.
type NodeID struct {
	Name        string
	Incarnation Incarnation
}

// String prints name and incarnation, as "node1/0f3c…".
func (id NodeID) String() string { return id.Name + "/" + id.Incarnation.String() }

// MarshalText prints the id as String does, in JSON and logs.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// The numbers below are minted by the metadata service, start at 1 and are
// never used again, not even after what they named is gone (PROTOCOL 1).
// Zero means "none", except for ReplicaSetID, where it is the metadata group.
type (
	// TenantID is the internal number of a tenant. Data, caches and paths key
	// on it, never on the tenant's name.
	TenantID uint64
	// PolicyID is the number of a placement policy.
	PolicyID uint64
	// BucketID is the number of one bucket of one policy.
	BucketID uint64
	// ReplicaSetID is the number of a ReplicaSet: one shard of one bucket, one
	// Raft group.
	ReplicaSetID uint64
	// ReplicaID is the number of one member of one ReplicaSet.
	ReplicaID uint64
)

// MetaReplicaSet is the Raft group of the metadata service itself.
const MetaReplicaSet ReplicaSetID = 0

// String prints the number in decimal.
func (id TenantID) String() string { return strconv.FormatUint(uint64(id), 10) }

// String prints the number in decimal.
func (id PolicyID) String() string { return strconv.FormatUint(uint64(id), 10) }

// String prints the number in decimal.
func (id BucketID) String() string { return strconv.FormatUint(uint64(id), 10) }

// String prints the number in decimal.
func (id ReplicaSetID) String() string { return strconv.FormatUint(uint64(id), 10) }

// String prints the number in decimal.
func (id ReplicaID) String() string { return strconv.FormatUint(uint64(id), 10) }
