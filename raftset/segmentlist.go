package raftset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate/internal/durable"
)

const (
	segmentsMagic   = "QRSG"
	segmentsVersion = 1

	// segmentLeast is the least number of bytes a segment takes in the list.
	segmentLeast = 9
)

var errNoStable = errors.New("the segment list keeps no stable values; the vote file does")

// segmentList is raft-wal's MetaStore: the list of its segments, in one
// checksummed file that is replaced whole. raft-wal's own keeps it in bbolt,
// which has no checksum on its data, panics on damaged pages, and holds a lock
// and a descriptor for each log.
//
// Load mends two states in which raft-wal would refuse every append for ever: a
// tail that is sealed but not yet succeeded, left by a crash, a Close or a full
// disk between the two, and a tail whose sealing batch was torn. And after an
// unclean stop it makes the tail durable before anything of it is replayed.
type segmentList struct {
	dir string
	// unclean tells that the log was not closed in order. Then the tail is
	// searched behind its end for entries that were durable once, and is
	// rewritten, since what is read may not be on the disk.
	unclean bool
	// reached is the index that the log must reach, or it is damaged.
	reached uint64
	// repair is off only in the test that shows what it is for.
	repair bool
}

// Load implements types.MetaStore.
func (s *segmentList) Load(dir string) (types.PersistentState, error) {
	s.dir = dir
	data, err := os.ReadFile(filepath.Join(dir, segmentsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return types.PersistentState{}, s.checkEmpty()
	}
	if err != nil {
		return types.PersistentState{}, err
	}
	state, err := decodeSegments(data)
	if err != nil {
		return types.PersistentState{}, fmt.Errorf("file %s: %w", filepath.Join(dir, segmentsFile), err)
	}
	if n := len(state.Segments); n > 0 && s.repair && state.Segments[n-1].SealTime.IsZero() {
		if err := s.mendTail(&state); err != nil {
			return types.PersistentState{}, err
		}
	}
	return state, nil
}

// checkEmpty keeps raft-wal from deleting the segments of a lost list.
func (s *segmentList) checkEmpty() error {
	names, err := filepath.Glob(filepath.Join(s.dir, "*.wal"))
	if err != nil {
		return err
	}
	if len(names) != 0 {
		return damaged("file %s is missing, but the log has %d segments", filepath.Join(s.dir, segmentsFile), len(names))
	}
	return nil
}

// mendTail settles the unsealed tail before recovery reads it, and appends its
// successor to the list if it turns out to be sealed.
func (s *segmentList) mendTail(state *types.PersistentState) error {
	tail := &state.Segments[len(state.Segments)-1]
	path := filepath.Join(s.dir, segment.FileName(*tail))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		// A crash between the list and the file; raft-wal creates it.
		return nil
	}
	scan, err := s.settleTail(path, tail)
	if err != nil || scan.indexStart == 0 {
		return err
	}
	tail.SealTime = time.Now()
	tail.IndexStart = scan.indexStart
	tail.MaxIndex = tail.BaseIndex + uint64(scan.entries) - 1
	state.Segments = append(state.Segments, types.SegmentInfo{
		ID:         state.NextSegmentID,
		BaseIndex:  tail.MaxIndex + 1,
		MinIndex:   tail.MaxIndex + 1,
		Codec:      tail.Codec,
		CreateTime: tail.SealTime,
		SizeLimit:  tail.SizeLimit,
	})
	state.NextSegmentID++
	return s.CommitState(*state)
}

// settleTail scans the tail's file and makes sure that what the scan found is
// durable, and all that recovery will find.
//
// After an unclean stop neither can be taken for granted. The last batches may
// have been written and not fsynced, by a process that was killed; or the fsync
// failed, and the kernel went on serving the pages from its cache, marked clean,
// so that no later fsync of this file ever writes them. Entries that are read
// here will be applied and acknowledged. So the tail is copied into a new file,
// fsynced and renamed over the old, from one read: a page that leaves the cache
// between two would come back as what the disk has.
//
// That is done for the tail only. A segment is listed as sealed when the fsync
// of its last batch has succeeded, and so had each one before: the first that
// fails stops the replica (guardedLog), and what it had left in doubt was
// settled here before the next append. After a clean stop the same is true of
// the tail.
func (s *segmentList) settleTail(path string, tail *types.SegmentInfo) (segmentScan, error) {
	scan, err := scanFile(path)
	if err != nil {
		return scan, segmentError(path, err)
	}
	if !s.unclean && !scan.tornIndex {
		return scan, s.checkReached(path, tail, scan)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return scan, err
	}
	if scan, err = scanSegment(bytes.NewReader(data)); err != nil {
		return scan, segmentError(path, err)
	}
	if err := s.checkReached(path, tail, scan); err != nil {
		return scan, err
	}
	if holdsBatch(data[scan.end:]) {
		return scan, damaged("segment %s: recovery ends at offset %d, but whole batches follow", path, scan.end)
	}
	// What a torn write left behind the end stays behind, or its index frame
	// could make raft-wal take the segment for sealed.
	return scan, publishSegment(path, data[:scan.end], int64(tail.SizeLimit))
}

func scanFile(path string) (scan segmentScan, err error) {
	f, err := os.Open(path)
	if err != nil {
		return scan, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return scanSegment(f)
}

func segmentError(path string, err error) error { return fmt.Errorf("segment %s: %w", path, err) }

// checkReached refuses a tail that ends too early: whatever stands behind its
// end is all that is left of the rest.
func (s *segmentList) checkReached(path string, tail *types.SegmentInfo, scan segmentScan) error {
	if last := tail.BaseIndex + uint64(scan.entries) - 1; last < s.reached {
		return damaged("segment %s: the log ends at entry %d, below the low-water mark %d", path, last, s.reached)
	}
	return nil
}

// CommitState implements types.MetaStore.
func (s *segmentList) CommitState(state types.PersistentState) error {
	return durable.WriteFile(filepath.Join(s.dir, segmentsFile), encodeSegments(state))
}

// GetStable implements types.MetaStore; it is not used.
func (s *segmentList) GetStable([]byte) ([]byte, error) { return nil, errNoStable }

// SetStable implements types.MetaStore; it is not used.
func (s *segmentList) SetStable(_, _ []byte) error { return errNoStable }

// Close implements types.MetaStore; no file stays open.
func (s *segmentList) Close() error { return nil }

func encodeSegments(state types.PersistentState) []byte {
	b := beginRecord(segmentsMagic, segmentsVersion)
	b = binary.AppendUvarint(b, state.NextSegmentID)
	b = binary.AppendUvarint(b, uint64(len(state.Segments)))
	for _, s := range state.Segments {
		for _, v := range []uint64{s.ID, s.BaseIndex, s.MinIndex, s.MaxIndex, s.Codec, s.IndexStart, uint64(s.SizeLimit)} {
			b = binary.AppendUvarint(b, v)
		}
		b = appendTime(b, s.CreateTime)
		b = appendTime(b, s.SealTime)
	}
	return sealRecord(b)
}

// decodeSegments decodes what encodeSegments wrote. Errors wrap ErrDamaged or
// are about a format version.
func decodeSegments(data []byte) (types.PersistentState, error) {
	c, err := openRecord(data, segmentsMagic, segmentsVersion)
	if err != nil {
		return types.PersistentState{}, err
	}
	state := types.PersistentState{NextSegmentID: c.Uvarint()}
	n := c.Count(segmentLeast)
	state.Segments = make([]types.SegmentInfo, n)
	for i := range state.Segments {
		s := &state.Segments[i]
		for _, v := range []*uint64{&s.ID, &s.BaseIndex, &s.MinIndex, &s.MaxIndex, &s.Codec, &s.IndexStart} {
			*v = c.Uvarint()
		}
		s.SizeLimit = uint32(min(c.Uvarint(), math.MaxUint32))
		s.CreateTime = c.time()
		s.SealTime = c.time()
	}
	return state, c.finish("segment list")
}

// appendTime appends a time in nanoseconds since 1970, and 0 for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 0)
	}
	return binary.AppendUvarint(b, uint64(t.UnixNano()))
}

func (c *recordReader) time() time.Time {
	v := c.Uvarint()
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(v))
}
