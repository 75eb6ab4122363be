package interchange

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// spool holds the series of one window on disk between their arrival and the
// writing of the block, and shows them to the compactor as a block. It is
// written once, in the order of labels, then read. What it implements of
// tsdb.BlockReader is what the compactor calls.
//
// A record is: uvarint number of labels; of each, name and value as uvarint
// length and bytes; uvarint number of chunks; of each, varint first and last
// time, one byte encoding, uvarint length, bytes. It never outlives a process.
type spool struct {
	file       *os.File
	out        *bufio.Writer
	size       int64
	mint, maxt int64 // of the window, closed

	symbols map[string]struct{}
	offsets []int64 // of each series' record, and the end
	last    labels.Labels
	scratch []byte
}

// createSpool makes an empty spool, in place of one that a crash left.
func createSpool(path string, mint, maxt int64) (*spool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &spool{
		file: f, out: bufio.NewWriterSize(f, 1<<20), mint: mint, maxt: maxt,
		symbols: map[string]struct{}{}, offsets: []int64{0},
	}, nil
}

// add adds the next series with its chunks, in order of time.
func (s *spool) add(lset labels.Labels, chks []chunks.Meta) error {
	if len(s.offsets) > 1 && labels.Compare(s.last, lset) >= 0 {
		return fmt.Errorf("%w: series %s comes after %s, which is not the order of labels", errPermanent, lset, s.last)
	}
	s.last = lset
	b := binary.AppendUvarint(s.scratch[:0], uint64(lset.Len()))
	lset.Range(func(l labels.Label) {
		for _, text := range []string{l.Name, l.Value} {
			s.symbols[text] = struct{}{}
			b = binary.AppendUvarint(b, uint64(len(text)))
			b = append(b, text...)
		}
	})
	b = binary.AppendUvarint(b, uint64(len(chks)))
	for _, c := range chks {
		b = binary.AppendVarint(b, c.MinTime)
		b = binary.AppendVarint(b, c.MaxTime)
		b = append(b, byte(c.Chunk.Encoding()))
		b = binary.AppendUvarint(b, uint64(len(c.Chunk.Bytes())))
		b = append(b, c.Chunk.Bytes()...)
	}
	s.scratch = b
	n, err := s.out.Write(b)
	s.size += int64(n)
	s.offsets = append(s.offsets, s.size)
	return err
}

// series is how many series were added.
func (s *spool) series() int { return len(s.offsets) - 1 }

// finish ends the writing.
func (s *spool) finish() error { return s.out.Flush() }

// remove closes and removes the file.
func (s *spool) remove() error { return errors.Join(s.file.Close(), os.Remove(s.file.Name())) }

// Index implements tsdb.BlockReader.
func (s *spool) Index() (tsdb.IndexReader, error) { return &spoolIndex{spool: s}, nil }

// Chunks implements tsdb.BlockReader.
func (s *spool) Chunks() (tsdb.ChunkReader, error) { return spoolChunks{s}, nil }

// Tombstones implements tsdb.BlockReader: there are none.
func (*spool) Tombstones() (tombstones.Reader, error) { return tombstones.NewMemTombstones(), nil }

// Meta implements tsdb.BlockReader.
func (s *spool) Meta() tsdb.BlockMeta { return tsdb.BlockMeta{MinTime: s.mint, MaxTime: s.maxt + 1} }

// Size implements tsdb.BlockReader.
func (s *spool) Size() int64 { return s.size }

// spoolIndex is a spool as an index. The reference of a series is its number
// from 1; that of a chunk is the offset of its encoding.
type spoolIndex struct {
	tsdb.IndexReader // none: the compactor calls nothing but what follows
	spool            *spool
	record           []byte
}

// Symbols implements tsdb.IndexReader.
func (x *spoolIndex) Symbols() index.StringIter {
	sorted := make([]string, 0, len(x.spool.symbols))
	for text := range x.spool.symbols {
		sorted = append(sorted, text)
	}
	slices.Sort(sorted)
	return index.NewStringListIter(sorted)
}

// Postings implements tsdb.IndexReader for the one list that is asked for: all.
func (x *spoolIndex) Postings(context.Context, string, ...string) (index.Postings, error) {
	return &counting{last: storage.SeriesRef(x.spool.series())}, nil
}

// SortedPostings implements tsdb.IndexReader: they are.
func (*spoolIndex) SortedPostings(p index.Postings) index.Postings { return p }

// Close implements tsdb.IndexReader.
func (*spoolIndex) Close() error { return nil }

// Series implements tsdb.IndexReader.
func (x *spoolIndex) Series(ref storage.SeriesRef, builder *labels.ScratchBuilder, chks *[]chunks.Meta) error {
	if ref == 0 || int(ref) > x.spool.series() {
		return storage.ErrNotFound
	}
	begin, end := x.spool.offsets[ref-1], x.spool.offsets[ref]
	x.record = slices.Grow(x.record[:0], int(end-begin))[:end-begin]
	if _, err := x.spool.file.ReadAt(x.record, begin); err != nil {
		return fmt.Errorf("read the spool: %w", err)
	}
	r := spoolReader{rest: x.record}
	builder.Reset()
	for n := r.uvarint(); n > 0; n-- {
		name := r.bytes()
		builder.Add(string(name), string(r.bytes()))
	}
	*chks = (*chks)[:0]
	for n := r.uvarint(); n > 0; n-- {
		c := chunks.Meta{MinTime: r.varint(), MaxTime: r.varint()}
		c.Ref = chunks.ChunkRef(end - int64(len(r.rest)))
		r.rest = r.rest[1:]
		r.bytes()
		*chks = append(*chks, c)
	}
	return nil
}

// spoolReader walks a record that this process has written.
type spoolReader struct{ rest []byte }

func (r *spoolReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.rest = r.rest[n:]
	return v
}

func (r *spoolReader) varint() int64 {
	v, n := binary.Varint(r.rest)
	r.rest = r.rest[n:]
	return v
}

func (r *spoolReader) bytes() []byte {
	n := r.uvarint()
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// counting is the postings 1 to last.
type counting struct{ at, last storage.SeriesRef }

// Next implements index.Postings.
func (c *counting) Next() bool { return c.Seek(c.at + 1) }

// Seek implements index.Postings.
func (c *counting) Seek(v storage.SeriesRef) bool {
	c.at = min(max(c.at, v), c.last+1)
	return c.at <= c.last
}

// At implements index.Postings.
func (c *counting) At() storage.SeriesRef { return c.at }

// Err implements index.Postings.
func (*counting) Err() error { return nil }

// spoolChunks is a spool as a chunk reader.
type spoolChunks struct{ spool *spool }

// ChunkOrIterable implements tsdb.ChunkReader.
func (c spoolChunks) ChunkOrIterable(meta chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	at := int64(min(uint64(meta.Ref), math.MaxInt64))
	var head [1 + binary.MaxVarintLen32]byte
	n, err := c.spool.file.ReadAt(head[:], at)
	if err != nil && (!errors.Is(err, io.EOF) || n < 2) {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	length, taken := binary.Uvarint(head[1:n])
	data := make([]byte, length)
	if _, err := c.spool.file.ReadAt(data, at+1+int64(taken)); err != nil && length > 0 {
		return nil, nil, fmt.Errorf("read the spool: %w", err)
	}
	chunk, err := chunkenc.FromData(chunkenc.Encoding(head[0]), data)
	return chunk, nil, err
}

// Close implements tsdb.ChunkReader.
func (spoolChunks) Close() error { return nil }
