package metasvc

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/internal/cursor"
)

// batchVersion is the version of an encoded Batch, its first byte. The records
// in it are as in the state, whose version rises with theirs.
const batchVersion = stateVersion

// AppendBatch appends an encoded batch, as it travels between nodes.
// docs/format/metadata.md has the layout.
func AppendBatch(dst []byte, b Batch) []byte {
	dst = append(dst, batchVersion)
	dst = binary.AppendUvarint(dst, b.To)
	dst = appendBool(dst, b.Whole)
	return appendList(dst, b.Changes, appendChange)
}

// DecodeBatch decodes what AppendBatch appended. The error wraps ErrCorrupt or
// ErrUnknownVersion.
func DecodeBatch(b []byte) (Batch, error) {
	if len(b) == 0 {
		return Batch{}, fmt.Errorf("%w: an empty batch of changes", ErrCorrupt)
	}
	if b[0] != batchVersion {
		return Batch{}, fmt.Errorf("%w: version %d of a batch of changes (this binary knows %d)", ErrUnknownVersion, b[0], batchVersion)
	}
	r := newReader(b[1:])
	batch := Batch{To: r.Uvarint(), Whole: r.bool(), Changes: readList(r, readChange)}
	if err := r.finish("batch of changes"); err != nil {
		return Batch{}, err
	}
	return batch, nil
}

// appendChange appends a change: the kind, whether the record is gone, and the
// record, which has index and number in it.
func appendChange(dst []byte, c Change) []byte {
	dst = append(dst, byte(c.Kind))
	dst = appendBool(dst, c.Removed)
	if c.Removed {
		dst = binary.AppendUvarint(dst, c.Index)
		dst = binary.AppendUvarint(dst, c.ID)
		return cursor.AppendBytes(dst, c.Name)
	}
	switch record := c.Record.(type) {
	case *Cluster:
		dst = appendCluster(dst, record)
	case *Node:
		dst = appendNode(dst, record)
	case *Tenant:
		dst = appendTenant(dst, record)
	case *Policy:
		dst = appendPolicy(dst, record)
	case *BucketRecord:
		dst = appendBucket(dst, record)
	case *ReplicaSet:
		dst = appendSet(dst, record)
	case *DeletionRecord:
		dst = appendDeletion(dst, record)
	}
	return dst
}

func readChange(r *reader) Change {
	c := Change{Kind: RecordKind(r.U8()), Removed: r.bool()}
	if c.Removed {
		c.Index, c.ID, c.Name = r.Uvarint(), r.Uvarint(), r.String()
		switch c.Kind {
		case KindTenant, KindBucket, KindReplicaSet, KindDeletion:
		default: // never removed, or unknown
			r.Fail()
		}
		return c
	}
	switch c.Kind {
	case KindCluster:
		record := readCluster(r)
		c.Record, c.Index = record, record.ModIndex
	case KindNode:
		record := readNode(r)
		c.Record, c.ID, c.Index = record, record.Number, record.ModIndex
	case KindTenant:
		record := readTenant(r)
		c.Record, c.ID, c.Index = record, uint64(record.ID), record.ModIndex
		if len(record.Placements) == 0 { // whoever asks for a policy relies on one
			r.Fail()
		}
	case KindPolicy:
		record := readPolicy(r)
		c.Record, c.ID, c.Index = record, uint64(record.ID), record.ModIndex
		if record.check() != nil {
			r.Fail()
		}
	case KindBucket:
		record := readBucket(r)
		c.Record, c.ID, c.Index = record, uint64(record.ID), record.ModIndex
	case KindReplicaSet:
		record := readSet(r)
		c.Record, c.ID, c.Index = record, uint64(record.ID), record.ModIndex
		if record.check() != nil {
			r.Fail()
		}
	case KindDeletion:
		record := readDeletion(r)
		c.Record, c.ID, c.Index = record, record.ID, record.ModIndex
		if _, refused := checkDeletion(record.Body); refused != nil {
			r.Fail()
		}
	default:
		r.Fail()
	}
	return c
}
