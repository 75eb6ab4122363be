package tsdbshard

import (
	"math"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate/tsdbshard/chunk"
)

// gatherer gathers the parts of one series after the other. It keeps the
// scratch space of decoding and encoding, some KiB that are made when they are
// first needed, and the decoder's timestamps, which the next series mostly has
// too. It is for one goroutine at a time.
type gatherer struct {
	// mint and maxt, ms, both inclusive, are the time that is wanted: parts
	// that have nothing of it are left out. Every part that has a timestamp
	// within it is there, so the first of them still wins.
	mint, maxt int64

	enc     *chunk.Encoder
	dec     *chunk.Decoder
	samples []sample
	chunks  []chunk.Chunk
}

// gatherAll returns a gatherer of all time.
func gatherAll() *gatherer { return &gatherer{mint: math.MinInt64, maxt: math.MaxInt64} }

// wants tells whether a time range has anything of what is wanted.
func (g *gatherer) wants(mint, maxt int64) bool { return mint <= g.maxt && maxt >= g.mint }

// encoder returns the encoder, whose scratch space serves again.
func (g *gatherer) encoder() *chunk.Encoder {
	if g.enc == nil {
		g.enc = new(chunk.Encoder)
	}
	return g.enc
}

// decode appends a part's samples to dst.
func (g *gatherer) decode(dst []sample, p *part) ([]sample, error) {
	if p.tail.rows == 0 {
		if g.dec == nil {
			g.dec = new(chunk.Decoder)
		}
		return g.dec.AppendTo(dst, &p.Chunk)
	}
	for r := p.tail.read(); r.next(); {
		dst = append(dst, r.sample())
	}
	return dst, nil
}

// merge decodes parts that are in log order and merges them: ascending in
// time, and for each timestamp the sample of the first part that has it. It
// overwrites dst.
func (g *gatherer) merge(dst []sample, parts []part) ([]sample, error) {
	dst = dst[:0]
	var err error
	for i := range parts {
		if dst, err = g.decode(dst, &parts[i]); err != nil {
			return nil, err
		}
	}
	if overlapping(parts) {
		slices.SortStableFunc(dst, func(a, b sample) int {
			switch {
			case a.T < b.T:
				return -1
			case a.T > b.T:
				return 1
			}
			return 0
		})
		dst = slices.CompactFunc(dst, func(a, b sample) bool { return a.T == b.T })
	}
	return dst, nil
}

// mask leaves out what was deleted of parts[from:]. What remains of a part
// that was deleted from is encoded anew, so that readers need to know nothing
// of deletes and the codec says anew which histograms follow which.
func (g *gatherer) mask(parts []part, from int, gone tombstones.Intervals) ([]part, error) {
	if len(gone) == 0 {
		return parts, nil
	}
	touched := slices.Clone(parts[from:])
	parts = parts[:from]
	for i := range touched {
		p := &touched[i]
		at := sort.Search(len(gone), func(i int) bool { return gone[i].Maxt >= p.MinTime })
		switch {
		case at == len(gone) || gone[at].Mint > p.MaxTime:
			parts = append(parts, *p)
			continue
		case gone[at].Mint <= p.MinTime && gone[at].Maxt >= p.MaxTime:
			continue
		}
		var err error
		if g.samples, err = g.decode(g.samples[:0], p); err != nil {
			return nil, err
		}
		g.samples = slices.DeleteFunc(g.samples, func(s sample) bool { return deletes(gone, s.T) })
		chunks, err := g.encoder().AppendChunks(nil, g.samples)
		if err != nil {
			return nil, err
		}
		for _, c := range chunks {
			parts = append(parts, part{Chunk: c})
		}
	}
	return parts, nil
}
