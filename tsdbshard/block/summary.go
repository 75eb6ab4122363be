package block

import (
	"encoding/binary"
	"math"

	"github.com/quorate/quorate/internal/cursor"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// Summary says what a block holds and which bytes it is.
type Summary struct {
	// Hash is the SHA-256 of the whole file. Only writers and Verify know it;
	// it is zero in what an opened block says of itself.
	Hash [32]byte
	// Bytes is the length of the file.
	Bytes uint64
	// Directory is the checksum of the directory page. It holds the checksum
	// of every page, so two files that agree here have the same content.
	Directory uint32
	// MinTime and MaxTime (ms) are the first and the last sample's timestamp;
	// math.MaxInt64 and math.MinInt64 when there are no samples.
	MinTime, MaxTime int64
	// Series is the number of series that the block defines.
	Series uint32
	// Rows is the number of series with samples, or, in a delta block, with a
	// newest sample or samples.
	Rows uint32
	// Samples counts floats and histograms alike.
	Samples   uint64
	Exemplars uint64
	// Tenants is the number of tenants that have series or metadata in it.
	Tenants uint32
}

func emptySummary() Summary { return Summary{MinTime: math.MaxInt64, MaxTime: math.MinInt64} }

// addChunks counts the samples of one row.
func (s *Summary) addChunks(chunks []chunk.Chunk) {
	for i := range chunks {
		c := &chunks[i]
		s.Samples += uint64(c.Rows)
		s.MinTime, s.MaxTime = min(s.MinTime, c.MinTime), max(s.MaxTime, c.MaxTime)
	}
}

// append appends what the directory says of the block: all but what follows
// from the bytes.
func (s *Summary) append(dst []byte) []byte {
	dst = binary.AppendVarint(dst, s.MinTime)
	dst = binary.AppendVarint(dst, s.MaxTime)
	dst = binary.AppendUvarint(dst, uint64(s.Series))
	dst = binary.AppendUvarint(dst, uint64(s.Rows))
	dst = binary.AppendUvarint(dst, s.Samples)
	dst = binary.AppendUvarint(dst, s.Exemplars)
	return binary.AppendUvarint(dst, uint64(s.Tenants))
}

func readSummary(c *cursor.Cursor) Summary {
	return Summary{
		MinTime: c.Varint(), MaxTime: c.Varint(),
		Series: readNumber(c), Rows: readNumber(c),
		Samples: c.Uvarint(), Exemplars: c.Uvarint(), Tenants: readNumber(c),
	}
}
