package chunk

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Decoder decodes chunks to samples and keeps its scratch space. The zero value
// is ready to use. It is not safe for concurrent use.
type Decoder struct {
	floats     decoded
	histograms histogramIterator
}

// AppendTo appends the samples of a chunk to dst. Their histograms are theirs.
// The error wraps ErrDamaged.
func (d *Decoder) AppendTo(dst []Sample, c *Chunk) ([]Sample, error) {
	if c.Kind != Floats {
		return d.appendHistograms(dst, c)
	}
	if err := d.floats.decode(c); err != nil {
		return nil, err
	}
	from := len(dst)
	dst = slices.Grow(dst, c.Rows)[:from+c.Rows]
	samples, times, values := dst[from:], d.floats.times, d.floats.values
	for i := range samples {
		samples[i] = Sample{T: times[i], V: values[i]}
	}
	for i, st := range d.floats.starts {
		samples[i].ST = st
	}
	return dst, nil
}

func (d *Decoder) appendHistograms(dst []Sample, c *Chunk) ([]Sample, error) {
	it := &d.histograms
	it.reset(c)
	for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
		s := Sample{ST: it.AtST()}
		var hint *histogram.CounterResetHint
		if vt == chunkenc.ValHistogram {
			s.T, s.H = it.AtHistogram(nil)
			hint = &s.H.CounterResetHint
		} else {
			s.T, s.FH = it.AtFloatHistogram(nil)
			hint = &s.FH.CounterResetHint
		}
		if it.read == 1 && c.opensWithReset() {
			*hint = histogram.CounterReset
		}
		dst = append(dst, s)
	}
	if it.err != nil {
		return nil, it.err
	}
	return dst, nil
}
