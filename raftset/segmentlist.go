package raftset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
// Load mends two states in which raft-wal would refuse every append for ever
// (RAFT 0.B): a tail that is sealed but not yet succeeded, left by a crash, a
// Close or a full disk between the two, and a tail whose sealing batch was torn.
type segmentList struct {
	dir string
	// search asks for a search behind the tail's end for entries that were
	// durable once: after an unclean stop.
	search bool
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

// mendTail looks at the unsealed tail as recovery will find it.
func (s *segmentList) mendTail(state *types.PersistentState) (err error) {
	tail := &state.Segments[len(state.Segments)-1]
	path := filepath.Join(s.dir, segment.FileName(*tail))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		// A crash between the list and the file; raft-wal creates it.
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	scan, err := scanSegment(f)
	if err != nil {
		return err
	}
	if last := tail.BaseIndex + uint64(scan.entries) - 1; last < s.reached {
		// Whatever stands behind the end is all that is left of the rest.
		return damaged("segment %s: the log ends at entry %d, below the low-water mark %d", path, last, s.reached)
	}
	if s.search || scan.tornIndex {
		if err := clearRest(f, scan.end); err != nil {
			return fmt.Errorf("segment %s: %w", path, err)
		}
	}
	if scan.indexStart == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	tail.SealTime = info.ModTime()
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

// clearRest zeroes what a torn write left behind the end of the segment, so
// that its index frame cannot make raft-wal take the segment for sealed. It
// refuses when what is there was durable once.
func clearRest(f *os.File, end int64) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	rest := make([]byte, max(0, size-end))
	if _, err := f.ReadAt(rest, end); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	torn := 0 // the length of rest without the zeros at its end
	for i, b := range rest {
		if b != 0 {
			torn = i + 1
		}
	}
	if torn == 0 {
		return nil
	}
	if holdsBatch(rest[:torn]) {
		return damaged("recovery ends at offset %d, but whole batches follow", end)
	}
	if _, err := f.WriteAt(make([]byte, torn), end); err != nil {
		return err
	}
	return f.Sync()
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
	state := types.PersistentState{NextSegmentID: c.uvarint()}
	n := c.count(segmentLeast)
	state.Segments = make([]types.SegmentInfo, n)
	for i := range state.Segments {
		s := &state.Segments[i]
		for _, v := range []*uint64{&s.ID, &s.BaseIndex, &s.MinIndex, &s.MaxIndex, &s.Codec, &s.IndexStart} {
			*v = c.uvarint()
		}
		s.SizeLimit = uint32(min(c.uvarint(), math.MaxUint32))
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

func (c *cursor) time() time.Time {
	v := c.uvarint()
	if v == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(v))
}
