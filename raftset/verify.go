package raftset

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Finding is what Verify has to say about one file.
type Finding struct {
	// File is the file's path below the replica's directory.
	File string
	// Offset is where in the file, in bytes; negative when it is about the
	// whole of it.
	Offset int64
	// What says what is wrong.
	What error
	// Unknown tells that the file is whole, but of a format version that this
	// binary does not know.
	Unknown bool
}

// Report is what Verify found in a replica's directory.
type Report struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
	// Formed is false for a directory in which no replica was ever born.
	Formed bool
	// Index and Term are the manifest's; Payload is what the state machine
	// recorded in it. All are zero when the manifest cannot be read.
	Index, Term uint64
	Payload     []byte
	// FirstIndex and LastIndex are what the log holds; both are 0 when that is
	// nothing.
	FirstIndex, LastIndex uint64
	// Entries is how many log entries were checked, LogBytes how many bytes of
	// segments were read for it.
	Entries  uint64
	LogBytes int64
	// Unflushed is how many commands the log has past the manifest.
	Unflushed uint64
	// Problems keep the replica from starting, or will. Notes do not: what a
	// torn write left at the log's end, say.
	Problems, Notes []Finding
}

// Verify checks a replica's directory against itself without changing anything
// in it: manifest, vote and low-water mark, every batch and every entry of the
// log, and whether they agree. No process may be using the directory. Visit, if
// not nil, is given the commands of the log past the manifest, in order; what
// it is given is its own, and its error ends up as a problem of the entry's
// segment and ends the visits. The error is of the context, of the file system, or about
// a directory whose name is not a replica's; damage is in the report.
func Verify(ctx context.Context, dir string, visit func(quorate.LogEntry) error) (Report, error) {
	v := &verification{dir: dir, visit: visit}
	name := strings.TrimSuffix(filepath.Base(dir), quarantineSuffix)
	if n, err := fmt.Sscanf(name, "%d-%d", &v.report.Set, &v.report.Replica); err != nil || n != 2 ||
		name != filepath.Base(replicaDir("", v.report.Set, v.report.Replica)) {
		return Report{}, fmt.Errorf("verify %s: its name is not a replica's", dir)
	}
	if err := v.run(ctx); err != nil {
		return v.report, fmt.Errorf("verify %s: %w", dir, err)
	}
	return v.report, nil
}

// verification is one run of Verify. Its methods return errors of the file
// system; what they find goes into the report.
type verification struct {
	dir    string
	visit  func(quorate.LogEntry) error
	report Report

	manifest *manifest // nil when it cannot be read
	vote     *ballot
	level    *waterLevel
	// term is the term of the last log entry seen.
	term uint64
	// tail is where the log ends, in its last segment; remains tells that
	// something that is no batch stands behind it.
	tail    Finding
	remains bool
	// torn is set when entries are missing or unreadable, so that what they
	// say together means nothing.
	torn bool
}

func (v *verification) run(ctx context.Context) error {
	if strings.HasSuffix(v.dir, quarantineSuffix) {
		reason, err := os.ReadFile(filepath.Join(v.dir, reasonFile))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		v.problem(reasonFile, -1, damaged("the replica was taken out of service: %s", strings.TrimSpace(string(reason))))
	} else if formed, err := v.formed(); err != nil || !formed {
		return err
	}
	v.report.Formed = true
	for _, step := range []func() error{v.readManifest, v.readVote, v.readLevel, v.temporaries} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := v.readLog(ctx); err != nil {
		return err
	}
	v.agree()
	return nil
}

// formed tells whether a replica was born here.
func (v *verification) formed() (bool, error) {
	switch err := checkFormed(v.dir, v.report.Set, v.report.Replica); {
	case err == nil || errors.Is(err, ErrDamaged):
		return true, nil // a missing manifest is found again when it is read
	case errors.Is(err, ErrNotFormed):
		v.note(manifestFile, -1, err)
		return false, nil
	default:
		return false, err
	}
}

func (v *verification) problem(file string, offset int64, what error) {
	var version *versionError
	unknown := errors.As(what, &version) || errors.Is(what, wire.ErrUnknownKind) || errors.Is(what, wire.ErrUnknownVersion)
	v.report.Problems = append(v.report.Problems, Finding{File: file, Offset: offset, What: what, Unknown: unknown})
}

func (v *verification) note(file string, offset int64, what error) {
	v.report.Notes = append(v.report.Notes, Finding{File: file, Offset: offset, What: what})
}

// record reads and decodes one of the replica's small files.
func (v *verification) record(file string, decode func([]byte) error) error {
	data, err := readRecord(filepath.Join(v.dir, file))
	if err == nil {
		err = decode(data)
	}
	if err != nil && isOSError(err) {
		return err
	}
	if err != nil {
		v.problem(file, -1, err)
	}
	return nil
}

func (v *verification) readManifest() error {
	return v.record(manifestFile, func(data []byte) error {
		m, err := decodeManifest(data)
		if err != nil {
			return err
		}
		if m.set != v.report.Set || m.replica != v.report.Replica {
			return damaged("the manifest is that of set %d, replica %d", m.set, m.replica)
		}
		v.manifest = m
		v.report.Index, v.report.Term, v.report.Payload = m.index, m.term, m.payload
		return nil
	})
}

func (v *verification) readVote() error {
	return v.record(voteFile, func(data []byte) error {
		b, err := decodeBallot(data, v.report.Set, v.report.Replica)
		if err == nil {
			v.vote = &b
		}
		return err
	})
}

func (v *verification) readLevel() error {
	return v.record(lowWaterFile, func(data []byte) error {
		w, err := decodeWaterLevel(data, v.report.Set, v.report.Replica)
		if err == nil {
			v.level = &w
		}
		return err
	})
}

// temporaries notes what a crash in the middle of a publication left behind.
func (v *verification) temporaries() error {
	for _, dir := range []string{"", logDir} {
		names, err := filepath.Glob(filepath.Join(v.dir, dir, "*.tmp"))
		if err != nil {
			return err
		}
		for _, name := range names {
			v.note(filepath.Join(dir, filepath.Base(name)), -1, errors.New("a publication was cut short here; the next start removes it"))
		}
	}
	return nil
}

// readLog checks the segments that the list names, and that there are no
// segments without a list.
func (v *verification) readLog(ctx context.Context) error {
	file := filepath.Join(logDir, segmentsFile)
	state, err := (&segmentList{repair: false}).Load(filepath.Join(v.dir, logDir))
	if err != nil && isOSError(err) {
		return err
	}
	if err != nil {
		v.torn = true
		v.problem(file, -1, err)
		return nil
	}
	listed := make(map[string]bool, len(state.Segments))
	for i, s := range state.Segments {
		listed[segment.FileName(s)] = true
		if i > 0 && s.BaseIndex != state.Segments[i-1].MaxIndex+1 {
			v.torn = true
			v.problem(file, -1, damaged("segment %s starts at entry %d, after one that ends at %d", segment.FileName(s), s.BaseIndex, state.Segments[i-1].MaxIndex))
		}
		if err := v.readSegment(ctx, s); err != nil {
			return err
		}
	}
	names, err := filepath.Glob(filepath.Join(v.dir, logDir, "*.wal"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if !listed[filepath.Base(name)] {
			v.note(filepath.Join(logDir, filepath.Base(name)), -1, errors.New("the segment is not in the list; the next start removes it"))
		}
	}
	return nil
}

func (v *verification) readSegment(ctx context.Context, info types.SegmentInfo) (err error) {
	w := segmentCheck{verification: v, info: info, file: filepath.Join(logDir, segment.FileName(info)), sealed: !info.SealTime.IsZero()}
	f, err := os.Open(filepath.Join(v.dir, w.file))
	if errors.Is(err, fs.ErrNotExist) {
		if !w.sealed {
			v.note(w.file, -1, errors.New("the segment is listed and not made yet; the next start makes it"))
			return nil
		}
		v.torn = true
		v.problem(w.file, -1, damaged("the segment is missing"))
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return w.check(ctx, f)
}

// agree checks what the files say of each other, as opening the replica does.
func (v *verification) agree() {
	if v.manifest == nil || v.torn {
		return
	}
	m, last := v.manifest, max(v.report.LastIndex, v.manifest.index)
	if v.report.FirstIndex > m.index+1 {
		v.problem(manifestFile, -1, damaged("the log starts at entry %d, but the manifest ends at %d", v.report.FirstIndex, m.index))
	}
	switch {
	case v.level != nil && last < v.level.index:
		if v.tail.File == "" {
			v.tail = Finding{File: lowWaterFile, Offset: -1}
		}
		v.problem(v.tail.File, v.tail.Offset, damaged("log and manifest end at entry %d, below the low-water mark %d", last, v.level.index))
	case v.remains:
		v.note(v.tail.File, v.tail.Offset, errors.New("a write was torn here by a crash; it was never acknowledged, and the next start clears it away"))
	}
	if v.vote != nil && (v.vote.term < m.term || v.vote.term < v.term) {
		v.problem(voteFile, -1, damaged("the vote's term is %d, behind manifest (%d) or log (%d)", v.vote.term, m.term, v.term))
	}
	if _, ok := find(m.servers, m.replica); !ok {
		v.note(manifestFile, -1, fmt.Errorf("the replica is not in its set's configuration at index %d", m.index))
	}
}

// segmentCheck walks one segment file from its start.
type segmentCheck struct {
	*verification
	info   types.SegmentInfo
	file   string
	sealed bool

	in      *bufio.Reader
	offset  int64 // of the next frame
	end     int64 // no frame lies behind it
	crc     uint32
	batch   int64 // where the batch at work starts
	offsets []uint32
	indexed bool   // an index frame was seen
	payload []byte // scratch
}

func (s *segmentCheck) check(ctx context.Context, f *os.File) error {
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	s.end = stat.Size()
	if !s.sealed {
		if done, err := s.findTail(f); done || err != nil {
			return err
		}
	}
	s.in = bufio.NewReaderSize(io.NewSectionReader(f, 0, s.end), 256<<10)
	if ok, err := s.header(); err != nil || !ok {
		return err
	}
	for s.offset < s.end {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err := s.frame(); err != nil {
			return err
		} else if !more {
			break
		}
	}
	s.report.LogBytes += s.offset
	if want := s.info.MaxIndex - s.info.BaseIndex + 1; s.sealed && (uint64(len(s.offsets)) < want || !s.indexed) {
		s.damage(s.offset, "the segment ends with entry %d, but the list says %d", s.next()-1, s.info.MaxIndex)
	}
	return nil
}

// findTail finds where the log ends in its last segment, as recovery does.
// Done means that there is nothing to walk.
func (s *segmentCheck) findTail(f *os.File) (done bool, err error) {
	scan, err := scanSegment(f)
	if errors.Is(err, ErrDamaged) {
		s.torn = true
		s.problem(s.file, -1, err)
		return true, nil
	}
	if err != nil {
		return true, err
	}
	rest, err := io.ReadAll(io.NewSectionReader(f, scan.end, s.end-scan.end))
	if err != nil {
		return true, err
	}
	s.end, s.tail = scan.end, Finding{File: s.file, Offset: scan.end}
	if scan.end == 0 {
		return true, nil
	}
	s.remains = slices.ContainsFunc(rest, func(b byte) bool { return b != 0 })
	if holdsBatch(rest) {
		s.damage(scan.end, "the log ends here, but whole batches follow")
	}
	return false, nil
}

// damage reports damage of the segment; its entries are not all there.
func (s *segmentCheck) damage(offset int64, format string, args ...any) {
	s.torn = true
	s.problem(s.file, offset, damaged(format, args...))
}

// segmentMagic begins a segment of raft-wal; the version follows it.
const segmentMagic = 0x58eb6b0d

func (s *segmentCheck) header() (ok bool, err error) {
	var b [segmentHeaderLen]byte
	if _, err := io.ReadFull(s.in, b[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		s.damage(0, "the segment of %d bytes is shorter than its header", s.end)
		return false, nil
	} else if err != nil {
		return false, err
	}
	magic, base := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	id, codec := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	switch {
	case magic != segmentMagic:
		s.damage(0, "the segment starts with %016x", magic)
	case base != s.info.BaseIndex || id != s.info.ID || codec != s.info.Codec:
		s.damage(8, "the header is of segment %d from entry %d, codec %d; the list says %d, %d, %d", id, base, codec, s.info.ID, s.info.BaseIndex, s.info.Codec)
	}
	s.crc = crc32.Update(0, castagnoli, b[:])
	s.offset = segmentHeaderLen
	return magic == segmentMagic, nil
}

// next is the index of the next entry.
func (s *segmentCheck) next() uint64 { return s.info.BaseIndex + uint64(len(s.offsets)) }

// frame checks the next frame. More is false at the end of what can be walked.
func (s *segmentCheck) frame() (more bool, err error) {
	var h [frameHeaderLen]byte
	if s.end-s.offset < frameHeaderLen {
		return false, nil
	}
	if _, err := io.ReadFull(s.in, h[:]); err != nil {
		return false, err
	}
	at, value := s.offset, binary.LittleEndian.Uint32(h[4:])
	if h[0] == frameCommit {
		s.offset += frameHeaderLen
		if s.crc != value {
			s.damage(s.batch, "the batch that ends at offset %d has the checksum %08x, its bytes give %08x", s.offset, value, s.crc)
		}
		s.crc, s.batch = 0, s.offset
		return !s.sealed || !s.indexed, nil
	}
	if h[0] != frameEntry && h[0] != frameIndex {
		if s.sealed {
			s.damage(at, "there is no frame where one must be")
		}
		return false, nil
	}
	padded := int64(value+7) &^ 7
	if value > segment.MaxEntrySize || at+frameHeaderLen+padded > s.end {
		s.damage(at, "the frame says it has %d bytes, more than the segment holds", value)
		return false, nil
	}
	s.payload = slices.Grow(s.payload[:0], int(padded))[:padded]
	if _, err := io.ReadFull(s.in, s.payload); err != nil {
		return false, err
	}
	s.crc = crc32.Update(crc32.Update(s.crc, castagnoli, h[:]), castagnoli, s.payload)
	s.offset = at + frameHeaderLen + padded
	if h[0] == frameIndex {
		s.index(at, s.payload[:value])
		return true, nil
	}
	index := s.next()
	s.offsets = append(s.offsets, uint32(at))
	if index >= s.info.MinIndex && (!s.sealed || index <= s.info.MaxIndex) {
		s.entry(at, index, s.payload[:value])
	}
	return true, nil
}

// index compares the array that a sealed segment is read by with the frames.
func (s *segmentCheck) index(at int64, array []byte) {
	s.indexed = true
	switch {
	case s.sealed && s.info.IndexStart != uint64(at)+frameHeaderLen:
		s.damage(at, "the index starts at offset %d, but the list says %d", at+frameHeaderLen, s.info.IndexStart)
	case len(array) != 4*len(s.offsets):
		s.damage(at, "the index has %d bytes for %d entries", len(array), len(s.offsets))
	default:
		for i, want := range s.offsets {
			if got := binary.LittleEndian.Uint32(array[4*i:]); got != want {
				s.damage(at+frameHeaderLen+4*int64(i), "the index says that entry %d is at offset %d; it is at %d", s.info.BaseIndex+uint64(i), got, want)
				return
			}
		}
	}
}

// entry checks one stored entry as every read of it does.
func (s *segmentCheck) entry(at int64, index uint64, payload []byte) {
	s.report.Entries++
	if s.report.FirstIndex == 0 {
		s.report.FirstIndex = index
	}
	s.report.LastIndex = index
	var l raft.Log
	if err := newCheckedLog(storedEntry{payload: payload}, s.report.Set).GetLog(index, &l); err != nil {
		s.torn = true
		s.problem(s.file, at, err)
		return
	}
	if l.Term < s.term {
		s.problem(s.file, at, damaged("log entry %d has term %d, after an entry of term %d", index, l.Term, s.term))
	}
	s.term = l.Term
	if s.manifest != nil && index == s.manifest.index && l.Term != s.manifest.term {
		s.note(s.file, at, fmt.Errorf("log entry %d has term %d, the manifest %d: the log is not the manifest's, and the next start deletes it", index, l.Term, s.manifest.term))
	}
	if l.Type != raft.LogCommand {
		return
	}
	if index > s.report.Index && !isFence(l.Data) {
		s.report.Unflushed++
	}
	if err := checkCommand(&l); err != nil {
		s.problem(s.file, at, err)
		return
	}
	if s.visit == nil || s.torn || isFence(l.Data) || s.manifest == nil || index <= s.manifest.index {
		return
	}
	if err := s.visit(quorate.LogEntry{Index: index, Term: l.Term, Data: l.Data}); err != nil {
		s.problem(s.file, at, fmt.Errorf("log entry %d: %w", index, err))
		s.visit = nil
	}
}

// storedEntry is a log store of the one entry that its bytes are.
type storedEntry struct {
	LogStore // none: nothing but GetLog is called
	payload  []byte
}

// GetLog implements raft.LogStore.
func (e storedEntry) GetLog(_ uint64, l *raft.Log) error {
	return (&wal.BinaryCodec{}).Decode(e.payload, l)
}
