package tsdbshard

import (
	"encoding/binary"

	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// reader is a cursor over the bytes of a manifest or a chunk record.
type reader struct{ cursor.Cursor }

func newReader(b []byte) reader {
	return reader{Cursor: cursor.Cursor{B: b}}
}

// finish reports a failed read, or bytes that are left over.
func (r *reader) finish(what string) error { return r.Finish(ErrDamaged, what) }

// appendChunkHead appends what stands before a chunk's columns.
func appendChunkHead(dst []byte, c *chunk.Chunk) []byte {
	dst = append(dst, byte(c.Kind))
	dst = binary.AppendUvarint(dst, uint64(c.Rows))
	dst = binary.AppendVarint(dst, c.MinTime)
	dst = binary.AppendUvarint(dst, uint64(c.MaxTime-c.MinTime))
	dst = binary.AppendUvarint(dst, uint64(len(c.Times)))
	dst = binary.AppendUvarint(dst, uint64(len(c.Starts)))
	return binary.AppendUvarint(dst, uint64(len(c.Values)))
}

// chunk reads one chunk of a record.
func (r *reader) chunk() chunk.Chunk {
	c := chunk.Chunk{Kind: chunk.Kind(r.U8())}
	rows := r.Uvarint()
	if rows > chunk.MaxRows {
		r.Fail()
	}
	c.Rows = int(rows)
	c.MinTime = r.Varint()
	c.MaxTime = c.MinTime + int64(r.Uvarint())
	times, starts, values := r.Uvarint(), r.Uvarint(), r.Uvarint()
	c.Times = r.Take(times)
	if starts > 0 {
		c.Starts = r.Take(starts)
	}
	c.Values = r.Take(values)
	return c
}
