package raftset

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// raft-wal's segment format, version 0, as far as its recovery goes wrong: a
// header of 32 bytes, then frames of 8 bytes and a payload padded to 8. A batch
// is entry frames, an index frame if it seals the segment, and a commit frame
// whose CRC32C covers everything since the commit before.
const (
	segmentHeaderLen = 32
	frameHeaderLen   = 8

	frameEntry  = 1
	frameIndex  = 2
	frameCommit = 3
)

// segmentScan is what raft-wal's recovery makes of a segment file.
type segmentScan struct {
	// entries is the number of entries before end.
	entries int
	// end is where the last whole batch ends; 0 when there is none.
	end int64
	// indexStart is where the committed index array starts; 0 if the segment
	// is not sealed.
	indexStart uint64
	// tornIndex tells of an index frame past end: raft-wal takes the segment
	// for sealed because of it.
	tornIndex bool
}

type segmentCommit struct {
	segmentScan
	start int64 // of the bytes its CRC covers
	crc   uint32
}

// scanSegment walks a segment's frames and finds its end by the same rules as
// raft-wal: at the last commit frame, unless nothing follows it and its
// checksum fails, then at the one before. Errors that wrap ErrDamaged are about
// batches that were durable once.
func scanSegment(f io.ReaderAt) (segmentScan, error) {
	var (
		walked      segmentScan
		last, prior *segmentCommit
		header      [frameHeaderLen]byte
	)
	offset := int64(segmentHeaderLen)
	for {
		if _, err := f.ReadAt(header[:], offset); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return segmentScan{}, err
		}
		length := binary.LittleEndian.Uint32(header[4:])
		next := offset + frameHeaderLen + int64(length+7)&^7
		switch header[0] {
		case frameEntry:
			walked.entries++
		case frameIndex:
			walked.indexStart = uint64(offset) + frameHeaderLen
		case frameCommit:
			next = offset + frameHeaderLen
			c := &segmentCommit{segmentScan: walked, crc: length}
			c.end = next
			if last != nil {
				c.start = last.end
			}
			prior, last = last, c
		default: // zeros, or no frame at all: the end
			return endOfSegment(f, walked, last, prior)
		}
		offset = next
	}
	return endOfSegment(f, walked, last, prior)
}

// whole tells whether the batch that the commit ends is what was written.
func (c *segmentCommit) whole(f io.ReaderAt) (bool, error) {
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, c.start, c.end-frameHeaderLen-c.start)); err != nil {
		return false, err
	}
	return sum.Sum32() == c.crc, nil
}

func endOfSegment(f io.ReaderAt, walked segmentScan, last, prior *segmentCommit) (segmentScan, error) {
	end, err := lastWhole(f, walked, last, prior)
	end.tornIndex = walked.indexStart != end.indexStart
	return end, err
}

// lastWhole returns the last batch that is whole. Only the very last may fail to
// be: any other was fsynced before the next was begun, and a failure is damage.
// raft-wal does not look at the batch before a torn one; but once the torn one is
// cleared away it would, and take the damage for one more torn write.
func lastWhole(f io.ReaderAt, walked segmentScan, last, prior *segmentCommit) (segmentScan, error) {
	if last == nil {
		return segmentScan{}, nil
	}
	whole, err := last.whole(f)
	switch {
	case err != nil:
		return segmentScan{}, err
	case whole:
		return last.segmentScan, nil
	case walked.entries > last.entries || walked.indexStart != last.indexStart:
		return segmentScan{}, damaged("the batch that ends at offset %d is not whole, but another follows", last.end)
	case prior == nil:
		return segmentScan{}, nil
	}
	whole, err = prior.whole(f)
	if err == nil && !whole {
		err = damaged("the batch that ends at offset %d is not whole, but another follows", prior.end)
	}
	return prior.segmentScan, err
}

// commitsTried is how many possible beginnings of a batch are tried for each
// possible end, since payloads may hold bytes that look like a commit frame.
const commitsTried = 8

// holdsBatch tells whether rest, the bytes past a segment's end, holds a whole
// batch that follows a commit frame of its own. raft-wal writes a batch only
// when the one before is fsynced, and a write that was torn is the last one: a
// whole batch behind another commit frame means that entries were durable once
// that recovery no longer reaches. That is damage and no torn write.
func holdsBatch(rest []byte) bool {
	var starts []int
	for o := 0; o+frameHeaderLen <= len(rest); o += frameHeaderLen {
		if binary.LittleEndian.Uint32(rest[o:]) != frameCommit {
			continue
		}
		crc := binary.LittleEndian.Uint32(rest[o+4:])
		for _, start := range starts[max(0, len(starts)-commitsTried):] {
			if start < o && crc32.Checksum(rest[start:o], castagnoli) == crc {
				return true
			}
		}
		starts = append(starts, o+frameHeaderLen)
	}
	return false
}
