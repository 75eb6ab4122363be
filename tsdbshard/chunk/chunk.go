package chunk

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// ErrDamaged is wrapped by the errors about bytes that no encoder wrote.
var ErrDamaged = errors.New("damaged chunk")

// Kind is what the samples of a chunk are.
type Kind uint8

// The kinds of chunks. The numbers stand in files.
const (
	Floats          Kind = 1
	Histograms      Kind = 2 // native histograms with integer counts
	FloatHistograms Kind = 3 // native histograms with float counts
)

const (
	// MaxRows bounds the samples of a chunk.
	MaxRows = 1024
	// MaxFloatRows is where AppendChunks cuts a run of floats.
	MaxFloatRows = 240
)

// Sample is one decoded sample: a float, or one of the two histograms.
type Sample struct {
	T, ST int64 // ms; ST is the start timestamp, 0 for none
	V     float64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Chunk is one encoded run of samples, ascending in time. Its bytes are never
// changed once it was made; see Encoder for how long they are valid.
type Chunk struct {
	Kind Kind
	// Rows is the number of samples, 1 to MaxRows.
	Rows int
	// MinTime and MaxTime are the first and the last timestamp.
	MinTime, MaxTime int64
	// Times is the column of a Floats chunk's timestamps. Chunks with equal
	// timestamps have equal bytes here, which whoever stores them may share.
	Times []byte
	// Starts is the column of a Floats chunk's start timestamps; nil when all
	// are 0.
	Starts []byte
	// Values is the column of a Floats chunk's values, or the bytes of a
	// chunkenc chunk.
	Values []byte
}

// Check checks what can be checked of a chunk without decoding it. The error
// wraps ErrDamaged.
func (c *Chunk) Check() error {
	if c.Rows < 1 || c.Rows > MaxRows || c.MinTime > c.MaxTime {
		return fmt.Errorf("%w: %d rows from %d to %d", ErrDamaged, c.Rows, c.MinTime, c.MaxTime)
	}
	switch c.Kind {
	case Floats:
		return nil
	case Histograms, FloatHistograms:
		if len(c.Values) < histogramHeaderBytes || histogramRows(c.Values) != c.Rows || len(c.Times)+len(c.Starts) > 0 {
			return fmt.Errorf("%w: histogram chunk of %d bytes and %d rows", ErrDamaged, len(c.Values), c.Rows)
		}
		return nil
	}
	return fmt.Errorf("%w: chunk of kind %d", ErrDamaged, c.Kind)
}

// AppendTo appends the chunk's samples to dst. The error wraps ErrDamaged.
// Callers that have many chunks use a Decoder.
func (c *Chunk) AppendTo(dst []Sample) ([]Sample, error) {
	var d Decoder
	return d.AppendTo(dst, c)
}

// Iterator walks the chunk's samples, using it again if it fits. What is wrong
// with the chunk is the iterator's error.
func (c *Chunk) Iterator(it chunkenc.Iterator) chunkenc.Iterator {
	if c.Kind == Floats {
		return c.floatIterator(it)
	}
	return c.histogramIterator(it)
}
