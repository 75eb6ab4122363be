package chunk

import "slices"

// Encoder encodes samples and keeps its scratch space: some 5 KiB, and 80 bytes
// for each row of the longest run. The zero value is ready to use. It is not
// safe for concurrent use.
type Encoder struct {
	values valueEncoder
	buf    []byte
	// times are the timestamps of the last run: series of one scrape, one
	// after the other, have the same, whose column is then not made again.
	times       []int64
	timesColumn []byte
	run         floatRun
}

// Floats encodes 1 to MaxRows floats, ascending in time; starts is nil when
// all start timestamps are 0. The chunk's bytes are valid until the next call.
func (e *Encoder) Floats(times, starts []int64, values []float64) Chunk {
	n := len(times)
	c := Chunk{Kind: Floats, Rows: n, MinTime: times[0], MaxTime: times[n-1]}
	if !slices.Equal(e.times, times) {
		e.times = append(e.times[:0], times...)
		e.timesColumn = e.values.appendTimes(e.timesColumn[:0], times)
	}
	c.Times = e.timesColumn
	e.buf = e.values.append(e.buf[:0], values)
	split := len(e.buf)
	if starts != nil {
		e.buf = e.values.appendTimes(e.buf, starts)
		c.Starts = e.buf[split:]
	}
	c.Values = e.buf[:split:split]
	return c
}

// own copies a chunk's columns into one allocation.
func (c *Chunk) own() {
	buf := make([]byte, 0, len(c.Times)+len(c.Starts)+len(c.Values))
	keep := func(column []byte) []byte {
		from := len(buf)
		buf = append(buf, column...)
		return buf[from:len(buf):len(buf)]
	}
	c.Times = keep(c.Times)
	if c.Starts != nil {
		c.Starts = keep(c.Starts)
	}
	c.Values = keep(c.Values)
}

// AppendChunks appends the chunks of samples that are in ascending order of
// time, cut at MaxFloatRows and where the kind changes. Their bytes are valid
// for ever. Callers that have many series use an Encoder.
func AppendChunks(dst []Chunk, samples []Sample) ([]Chunk, error) {
	var e Encoder
	return e.AppendChunks(dst, samples)
}

// AppendChunks is the function AppendChunks for callers that have many series:
// it uses the encoder's scratch space.
func (e *Encoder) AppendChunks(dst []Chunk, samples []Sample) ([]Chunk, error) {
	var open Open
	for i := range samples {
		s := &samples[i]
		if s.H == nil && s.FH == nil {
			if !open.Empty() {
				dst, open = append(dst, open.Chunk()), Open{}
			}
			if len(e.run.times) == MaxFloatRows {
				dst = e.flush(dst)
			}
			if len(e.run.times) == 0 {
				e.run.reserve(len(samples) - i)
			}
			e.run.add(s)
			continue
		}
		dst = e.flush(dst)
		before, full, err := open.Append(*s)
		if err != nil {
			return nil, err // the run is empty: it was flushed above
		}
		if full {
			dst = append(dst, before)
		}
	}
	if !open.Empty() {
		dst = append(dst, open.Chunk())
	}
	return e.flush(dst), nil
}

// flush appends the chunk of the run that was gathered, if there is one.
func (e *Encoder) flush(dst []Chunk) []Chunk {
	r := &e.run
	if len(r.times) == 0 {
		return dst
	}
	starts := r.starts
	if !r.started {
		starts = nil
	}
	c := e.Floats(r.times, starts, r.values)
	c.own()
	r.times, r.starts, r.values, r.started = r.times[:0], r.starts[:0], r.values[:0], false
	return append(dst, c)
}

// floatRun gathers floats that become one chunk.
type floatRun struct {
	times, starts []int64
	values        []float64
	started       bool // any start timestamp is not 0
}

// reserve makes room for what is left of n samples, up to a chunk.
func (r *floatRun) reserve(n int) {
	n = min(n, MaxFloatRows)
	r.times, r.starts, r.values = slices.Grow(r.times, n), slices.Grow(r.starts, n), slices.Grow(r.values, n)
}

func (r *floatRun) add(s *Sample) {
	r.times = append(r.times, s.T)
	r.starts = append(r.starts, s.ST)
	r.values = append(r.values, s.V)
	r.started = r.started || s.ST != 0
}
