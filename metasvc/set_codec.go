package metasvc

import (
	"encoding/binary"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
)

// The encodings of sets and deletions; see record_codec.go.

func appendReplicaID(dst []byte, id quorate.ReplicaID) []byte {
	return binary.AppendUvarint(dst, uint64(id))
}

func readReplicaID(r *reader) quorate.ReplicaID { return quorate.ReplicaID(r.Uvarint()) }

func appendSet(dst []byte, s *ReplicaSet) []byte {
	dst = appendSetID(dst, s.ID)
	dst = binary.AppendUvarint(dst, uint64(s.Bucket))
	dst = binary.AppendUvarint(dst, uint64(s.Shard))
	dst = append(dst, byte(s.State))
	dst = binary.AppendUvarint(dst, uint64(s.Bounds.Version))
	dst = appendRange(dst, s.Bounds.Range)
	dst = append(dst, byte(s.Bounds.State))
	dst = binary.AppendVarint(dst, s.Reach)
	dst = appendList(dst, s.Members, appendMember)
	dst = appendList(dst, s.Formed, appendReplicaID)
	dst = appendBool(dst, s.Moved)
	dst = appendList(dst, s.Joined, appendReplicaID)
	dst = appendList(dst, s.Left, appendMember)
	dst = appendSetID(dst, s.Base)
	dst = binary.AppendUvarint(dst, uint64(s.Generation))
	dst = appendBool(dst, s.Pending)
	dst = binary.AppendUvarint(dst, s.Announced)
	dst = appendBool(dst, s.SealAsked)
	dst = appendOptional(dst, s.Intent, func(dst []byte, i *Intent) []byte {
		dst = binary.AppendUvarint(dst, uint64(i.ID))
		dst = append(dst, byte(i.Kind))
		dst = binary.AppendUvarint(dst, i.Term)
		return cursor.AppendBytes(dst, i.Payload)
	})
	dst = appendOptional(dst, s.Done, func(dst []byte, d *Confirmation) []byte {
		dst = binary.AppendUvarint(dst, uint64(d.ID))
		dst = append(dst, byte(d.Kind))
		return binary.AppendUvarint(dst, d.LogIndex)
	})
	dst = appendList(dst, s.Reports, appendSealReport)
	dst = appendOptional(dst, s.Sealed, func(dst []byte, sealed *SealRecord) []byte {
		dst = binary.AppendUvarint(dst, uint64(sealed.Voters))
		dst = binary.AppendUvarint(dst, sealed.Index)
		dst = append(dst, sealed.Checksum[:]...)
		return appendSealedFile(dst, &sealed.File)
	})
	dst = appendList(dst, s.Dropped, appendReplicaID)
	return binary.AppendUvarint(dst, s.ModIndex)
}

func readSet(r *reader) *ReplicaSet {
	s := &ReplicaSet{
		ID:     readSetID(r),
		Bucket: quorate.BucketID(r.Uvarint()),
		Shard:  readSmall(r),
		State:  ReplicaSetState(r.U8()),
	}
	s.Bounds.Version = quorate.BoundsVersion(r.Uvarint())
	s.Bounds.Range = readRange(r)
	s.Bounds.State = quorate.SetState(r.U8())
	s.Reach = r.Varint()
	s.Members = readList(r, readMember)
	s.Formed = readList(r, readReplicaID)
	s.Moved = r.bool()
	s.Joined = readList(r, readReplicaID)
	s.Left = readList(r, readMember)
	s.Base = readSetID(r)
	s.Generation = readSmall(r)
	s.Pending = r.bool()
	s.Announced = r.Uvarint()
	s.SealAsked = r.bool()
	s.Intent = readOptional(r, func(r *reader) *Intent {
		i := &Intent{ID: IntentID(r.Uvarint()), Kind: IntentKind(r.U8()), Term: r.Uvarint()}
		i.Payload = append([]byte(nil), r.Bytes()...)
		return i
	})
	s.Done = readOptional(r, func(r *reader) *Confirmation {
		return &Confirmation{ID: IntentID(r.Uvarint()), Kind: IntentKind(r.U8()), LogIndex: r.Uvarint()}
	})
	s.Reports = readList(r, readSealReport)
	s.Sealed = readOptional(r, func(r *reader) *SealRecord {
		sealed := &SealRecord{Voters: readSmall(r), Index: r.Uvarint()}
		r.fixed(sealed.Checksum[:])
		sealed.File = *readSealedFile(r)
		return sealed
	})
	s.Dropped = readList(r, readReplicaID)
	s.ModIndex = r.Uvarint()
	return s
}

func appendSealReport(dst []byte, report SealReport) []byte {
	dst = appendReplicaID(dst, report.Replica)
	dst = binary.AppendUvarint(dst, report.Intent)
	dst = binary.AppendUvarint(dst, report.Index)
	dst = append(dst, report.Checksum[:]...)
	return appendOptional(dst, report.File, appendSealedFile)
}

func readSealReport(r *reader) SealReport {
	report := SealReport{Replica: readReplicaID(r), Intent: r.Uvarint(), Index: r.Uvarint()}
	r.fixed(report.Checksum[:])
	report.File = readOptional(r, readSealedFile)
	return report
}

func appendSealedFile(dst []byte, f *wire.SealedFile) []byte { return f.Append(dst) }

// readSealedFile reads what wire.SealedFile.Append appends. It never returns
// nil. wire's own decoder would take numbers in other than their shortest form.
func readSealedFile(r *reader) *wire.SealedFile {
	f := new(wire.SealedFile)
	r.fixed(f.Hash[:])
	f.Bytes, f.Series, f.Samples = r.Uvarint(), r.Uvarint(), r.Uvarint()
	f.MinTime, f.MaxTime = r.Varint(), r.Varint()
	return f
}

func appendDeletion(dst []byte, d *DeletionRecord) []byte {
	dst = binary.AppendUvarint(dst, d.ID)
	dst = cursor.AppendBytes(dst, d.Body)
	dst = appendList(dst, d.Sets, appendSetID)
	dst = appendBool(dst, d.Pending)
	dst = binary.AppendUvarint(dst, d.Announced)
	return binary.AppendUvarint(dst, d.ModIndex)
}

func readDeletion(r *reader) *DeletionRecord {
	return &DeletionRecord{
		ID:        r.Uvarint(),
		Body:      append([]byte(nil), r.Bytes()...),
		Sets:      readList(r, readSetID),
		Pending:   r.bool(),
		Announced: r.Uvarint(),
		ModIndex:  r.Uvarint(),
	}
}
