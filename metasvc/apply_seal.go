package metasvc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
)

// Sealing a set (PROTOCOL 14) takes an intent, the reports of its replicas, and
// the verdict on them:
//
//	BeginIntent(seal) -> the set's leader proposes it in the set's log
//	ReportSeal        <- each replica, over its own samples
//	JudgeSeal         -> sealed, or disputed, or no verdict yet
//
// An intent to seal is never given up but by the drop of its bucket: its entry
// may stand in the set's log already, where the first one counts, and a second
// intent would name deletions that the first one's file does not fold in.

func (c RequestSeal) apply(s *state, _ uint64) any {
	if r := checkRising("set", c.Sets); r != nil {
		return r
	}
	for _, id := range c.Sets {
		set := s.sets[id]
		switch {
		case set == nil:
			return refuse(ReasonNotFound, "set %d does not exist", id)
		case s.buckets[set.Bucket].State == BucketDropping:
			return refuse(ReasonOutdated, "set %d is dropped", id)
		case set.State == ReplicaSetForming || set.State == ReplicaSetOpen && set.Pending || s.buckets[set.Bucket].State == BucketPlanned:
			return refuse(ReasonBusy, "set %d is not open yet", id)
		}
	}
	for _, id := range c.Sets {
		if set := s.sets[id]; set.State == ReplicaSetOpen && set.Sealing() == nil && !set.SealAsked {
			asked := *set
			asked.SealAsked = true
			s.putSet(&asked)
		}
	}
	return RequestSealResult{Index: s.index}
}

// checkSeal judges an intent to seal a set.
func (s *state) checkSeal(set *ReplicaSet, payload []byte) *Refusal {
	if bucket := s.buckets[set.Bucket]; set.State != ReplicaSetOpen || bucket.State != BucketOpen {
		return refuse(ReasonOutdated, "set %d is %s and its bucket %s: only an open set is sealed", set.ID, set.State, bucket.State)
	}
	if set.Pending {
		return refuse(ReasonBusy, "set %d: not every node knows of the overlay yet", set.ID)
	}
	if outOfBounds(set, s.buckets[set.Bucket]) {
		return refuse(ReasonBusy, "set %d: its log has not the bounds of its bucket yet, which was cut", set.ID)
	}
	if base := s.sets[set.Base]; set.Base != 0 && !togetherStill(base, set) {
		return refuse(ReasonBusy, "set %d: its base %d lies on other nodes, or moves", set.ID, set.Base)
	}
	folded, ok := readSealPayload(payload)
	if !ok {
		return refuse(ReasonInvalid, "set %d: the payload of %d bytes is no seal without a number", set.ID, len(payload))
	}
	// The file of the overlay takes over all deletions of its base, so it must
	// fold in all of them, and no more may come (see CreateDelete).
	var want []*DeletionRecord
	if set.Base != 0 {
		want = s.deletionsOf(set.Base)
		for _, d := range want {
			if d.Pending {
				return refuse(ReasonBusy, "set %d: not every node knows of deletion %d on its base %d yet", set.ID, d.ID, set.Base)
			}
		}
	}
	if got, ids := foldedIDs(folded), deletionIDs(want); !slices.Equal(got, ids) {
		return refuse(ReasonOutdated, "set %d: the seal folds in deletions %v, and its base %d has %v", set.ID, got, set.Base, ids)
	}
	for i, f := range folded {
		if !f.is(want[i]) {
			return refuse(ReasonInvalid, "set %d: what the seal folds in as deletion %d is another deletion", set.ID, f.id)
		}
	}
	return nil
}

// togetherStill tells whether an overlay lies on the nodes of its base, which
// does not move: each replica of the overlay merges the base's file into its own.
func togetherStill(base, overlay *ReplicaSet) bool {
	return base.Intent == nil && len(base.Members) == len(overlay.Members) &&
		!slices.ContainsFunc(overlay.Members, func(m Member) bool { _, there := base.MemberOn(m.Node); return !there })
}

// foldedDeletion is a deletion as the payload of a seal has it.
type foldedDeletion struct {
	id   uint64
	body []byte
}

// is tells whether the seal folds in just that deletion, byte for byte.
func (f foldedDeletion) is(d *DeletionRecord) bool {
	return f.id == d.ID && bytes.Equal(f.body, d.Body)
}

func foldedIDs(list []foldedDeletion) (ids []uint64) {
	for _, f := range list {
		ids = append(ids, f.id)
	}
	return ids
}

func deletionIDs(list []*DeletionRecord) (ids []uint64) {
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

// sealPayloadVersion is the version of wire.Seal that is read and written here.
const sealPayloadVersion = 1

// appendSealPayload appends an encoded wire.Seal without a number of its own.
// The deletions go in as they are kept: decoded and encoded again, one of
// another binary might have become another.
func appendSealPayload(dst []byte, horizons []wire.Horizon, deletions []*DeletionRecord) []byte {
	dst = append(dst, sealPayloadVersion, 0)
	dst = appendList(dst, horizons, func(dst []byte, h wire.Horizon) []byte {
		return binary.AppendVarint(binary.AppendUvarint(dst, uint64(h.Tenant)), h.Oldest)
	})
	return appendList(dst, deletions, func(dst []byte, d *DeletionRecord) []byte {
		return cursor.AppendBytes(binary.AppendUvarint(dst, d.ID), d.Body)
	})
}

// readSealPayload reads the deletions of what appendSealPayload appended, which
// point into it. It compiles no matchers; see DeletionRecord.
func readSealPayload(payload []byte) (deletions []foldedDeletion, ok bool) {
	r := newReader(payload)
	if r.U8() != sealPayloadVersion || r.Uvarint() != 0 {
		return nil, false
	}
	last := quorate.TenantID(0)
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		tenant := quorate.TenantID(r.Uvarint())
		if r.Varint(); tenant <= last {
			r.Fail()
		}
		last = tenant
	}
	for n := r.Uvarint(); n > 0 && !r.Bad; n-- {
		f := foldedDeletion{id: r.Uvarint(), body: r.Bytes()}
		if _, refused := checkDeletion(f.body); refused != nil {
			r.Fail()
		}
		deletions = append(deletions, f)
	}
	return deletions, r.finish("seal") == nil
}

// sealIntent tells whether an intent is the seal of a set: under way or done.
func (s *ReplicaSet) sealIntent(id IntentID) bool {
	if i := s.Sealing(); i != nil && i.ID == id {
		return true
	}
	return s.Done != nil && s.Done.Kind == IntentSeal && s.Done.ID == id
}

func (c ReportSeal) apply(s *state, _ uint64) any {
	set := s.sets[c.Set]
	switch {
	case set == nil:
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	case !set.HasMember(c.Report.Replica):
		return refuse(ReasonNotFound, "replica %d is not a member of set %d", c.Report.Replica, c.Set)
	case c.Report.Index == 0:
		return refuse(ReasonInvalid, "set %d: a seal cannot stand at log index 0", c.Set)
	case set.State == ReplicaSetDropping:
		return ReportSealResult{Index: s.index, State: set.State}
	case set.isJoined(c.Report.Replica):
		return refuse(ReasonOutdated, "replica %d joined set %d after it was sealed", c.Report.Replica, c.Set)
	case !set.sealIntent(IntentID(c.Report.Intent)):
		return refuse(ReasonOutdated, "set %d: intent %d is not its seal", c.Set, c.Report.Intent)
	}
	report := c.Report
	at, known := slices.BinarySearchFunc(set.Reports, report.Replica, func(r SealReport, id quorate.ReplicaID) int {
		return cmp.Compare(r.Replica, id)
	})
	if known && report.File == nil && report.agrees(set.Reports[at]) {
		report.File = set.Reports[at].File // said before
	}
	// What the verdict was made of stays, so that it can be held against it.
	if !known || set.State != ReplicaSetSealed && !report.equal(set.Reports[at]) {
		reported := *set
		reported.Reports = slices.Clone(set.Reports)
		if known {
			reported.Reports[at] = report
		} else {
			reported.Reports = slices.Insert(reported.Reports, at, report)
		}
		s.putSet(&reported)
	}
	return ReportSealResult{Index: s.index, State: set.State}
}

// verdict judges the reports of a seal: what to seal the set as, nil when it
// cannot be sealed yet, and whether it never can as the reports stand.
func (s *ReplicaSet) verdict(live []quorate.ReplicaID) (sealed *SealRecord, disputed bool) {
	for _, candidate := range s.Reports {
		votes := 0
		var record *SealRecord
		for _, r := range s.Reports {
			if !r.agrees(candidate) {
				continue
			}
			votes++
			if r.File != nil && record == nil {
				record = &SealRecord{Voters: len(s.Members), Index: r.Index, Checksum: r.Checksum, File: *r.File}
			}
		}
		if votes > len(s.Members)/2 {
			for _, id := range live {
				if !s.reported(id) {
					return nil, false
				}
			}
			return record, false // nil while the file is not built
		}
	}
	return nil, len(s.Reports) == len(s.Members)
}

func (s *ReplicaSet) reported(replica quorate.ReplicaID) bool {
	return slices.ContainsFunc(s.Reports, func(r SealReport) bool { return r.Replica == replica })
}

func (c JudgeSeal) apply(s *state, term uint64) any {
	set := s.sets[c.Set]
	if set == nil {
		return refuse(ReasonNotFound, "set %d does not exist", c.Set)
	}
	if c.Term != term {
		return refuse(ReasonOutdated, "set %d: its seal was judged in term %d, this is term %d", c.Set, c.Term, term)
	}
	if r := checkRising("replica", c.Live); r != nil {
		return r
	}
	for _, id := range c.Live {
		if !set.HasMember(id) {
			return refuse(ReasonNotFound, "replica %d is not a member of set %d", id, c.Set)
		}
	}
	if !set.sealIntent(c.Intent) {
		return refuse(ReasonOutdated, "set %d: intent %d is not its seal", c.Set, c.Intent)
	}
	if set.Sealing() != nil {
		record, disputed := set.verdict(c.Live)
		switch {
		case record != nil:
			set = s.seal(set, record)
		case disputed && set.State != ReplicaSetDisputed:
			set = s.dispute(set)
		}
	}
	return JudgeSealResult{Index: s.index, State: set.State}
}

// seal records the verdict. The sealed overlay takes its base's place, with
// the base's samples and without what was deleted from them in its file; the
// base is dropped once no node reads it any more (PROTOCOL 8, 15).
func (s *state) seal(set *ReplicaSet, record *SealRecord) *ReplicaSet {
	sealed := *set
	sealed.State = ReplicaSetSealed
	sealed.Bounds = sealedBounds(set.Bounds)
	sealed.Done = &Confirmation{ID: set.Intent.ID, Kind: IntentSeal, LogIndex: record.Index}
	sealed.Intent = nil
	sealed.SealAsked = false
	sealed.Sealed = record
	s.putSet(&sealed)
	if set.Base == 0 {
		return &sealed
	}
	bucket := *s.buckets[set.Bucket]
	bucket.SetIDs = slices.Clone(bucket.SetIDs)
	bucket.SetIDs[set.Shard] = set.ID
	bucket.OverlayIDs = slices.Clone(bucket.OverlayIDs)
	bucket.OverlayIDs[set.Shard] = 0
	s.putBucket(&bucket)
	base := *s.sets[set.Base]
	base.Pending = true
	base.Announced = s.index
	s.putSet(&base)
	s.forgetDeletions(base.ID)
	return &sealed
}

// dispute records that the replicas differ. The intent stays: a replica that
// reports anew may still make a majority.
func (s *state) dispute(set *ReplicaSet) *ReplicaSet {
	disputed := *set
	disputed.State = ReplicaSetDisputed
	disputed.Bounds = sealedBounds(set.Bounds)
	disputed.SealAsked = false
	s.putSet(&disputed)
	return &disputed
}

// sealedBounds are the bounds of a set whose log has a seal.
func sealedBounds(b quorate.Bounds) quorate.Bounds {
	if b.State == quorate.SetOpen {
		b.Version++
		b.State = quorate.SetSealed
	}
	return b
}

// checkRising checks that numbers rise, so that a list of them has one form.
func checkRising[ID ~uint64](what string, ids []ID) *Refusal {
	for i := 1; i < len(ids); i++ {
		if ids[i-1] >= ids[i] {
			return refuse(ReasonInvalid, "%s %d stands after %s %d", what, ids[i], what, ids[i-1])
		}
	}
	return nil
}
