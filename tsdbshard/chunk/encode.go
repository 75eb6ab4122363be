package chunk

import "slices"

// AppendChunks appends the chunks of samples that are in ascending order of
// time, cut at MaxFloatRows and where the kind changes. Their bytes are valid
// for ever.
func AppendChunks(dst []Chunk, samples []Sample) ([]Chunk, error) {
	var (
		open Open
		run  floatRun
	)
	for i := range samples {
		s := &samples[i]
		if s.H == nil && s.FH == nil {
			if !open.Empty() {
				dst, open = append(dst, open.Chunk()), Open{}
			}
			if len(run.times) == MaxFloatRows {
				dst = run.flush(dst)
			}
			run.add(s)
			continue
		}
		dst = run.flush(dst)
		before, full, err := open.Append(*s)
		if err != nil {
			return nil, err
		}
		if full {
			dst = append(dst, before)
		}
	}
	if !open.Empty() {
		dst = append(dst, open.Chunk())
	}
	return run.flush(dst), nil
}

// floatRun gathers floats that become one chunk.
type floatRun struct {
	times, starts []int64
	values        []float64
	started       bool // any start timestamp is not 0
	enc           Encoder
}

func (r *floatRun) add(s *Sample) {
	r.times = append(r.times, s.T)
	r.starts = append(r.starts, s.ST)
	r.values = append(r.values, s.V)
	r.started = r.started || s.ST != 0
}

func (r *floatRun) flush(dst []Chunk) []Chunk {
	if len(r.times) == 0 {
		return dst
	}
	starts := r.starts
	if !r.started {
		starts = nil
	}
	c := r.enc.Floats(r.times, starts, r.values)
	c.Times, c.Starts, c.Values = slices.Clone(c.Times), slices.Clone(c.Starts), slices.Clone(c.Values)
	r.times, r.starts, r.values, r.started = r.times[:0], r.starts[:0], r.values[:0], false
	return append(dst, c)
}
