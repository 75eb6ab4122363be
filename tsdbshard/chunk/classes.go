package chunk

import (
	"math"
	"math/bits"
	"slices"
)

// Residuals of very different lengths, as the steps of bursty counters, are
// packed with a class each, which says how wide they are. That costs no more
// than exceptions do where they are few, and does not break down where they are
// many: a class is at most maxClassBits wide and a residual rarely much longer
// than it must be.

// minClassRows is from how many numbers on their table of widths can pay.
const minClassRows = 24

const maxClasses = 1 << maxClassBits

// classifier chooses the widths of classes and keeps its scratch space.
type classifier struct {
	above   lengths
	lengths [65]uint8 // that occur, ascending
	counts  [65]int   // of them
	// cost[k][j] is the least cost of the first j+1 lengths in at most k+1
	// classes, from[k][j] the first length of the last of those.
	cost [maxClasses][65]int
	from [maxClasses][65]uint8
	best [maxClasses]uint8
}

// improve changes the plan to classes if these cost less; l has the lengths of
// its differences from the centre, zigzagged.
func (c *classifier) improve(p *plan, least, centre int64, l *lengths) {
	n := len(p.differences)
	base, zigzags, sum := centre, byte(layoutZigzag), l.sum()
	// The class of a number and what it is shorter than its class take a bit
	// and a half together where classes are worth it. What could save less
	// than a fiftieth is not looked at. Above the least, lengths are shorter
	// by one bit at best.
	limit := p.cost - p.cost/50 - varintBits(base)
	if sum+n/2 >= limit {
		return
	}
	if least != centre {
		c.above.measureAbove(p.differences, least)
		if s := c.above.sum(); s <= sum {
			base, zigzags, sum, l = least, 0, s, &c.above
		}
	}
	if sum+n+n/2 >= limit {
		return
	}
	layout, cost := c.choose(l, n, limit)
	if layout == 0 {
		return
	}
	p.widths = c.best[:1<<(layout-layoutClasses)]
	p.layout, p.base, p.cost = layout|zigzags, base, cost+varintBits(base)
}

// choose returns the layout of the classes by which n numbers of such lengths
// cost the least, and their cost if it is below limit; else 0.
func (c *classifier) choose(l *lengths, n, limit int) (layout byte, cost int) {
	m := 0
	for length := 0; length <= l.longest; length++ {
		if l.count[length] > 0 {
			c.lengths[m], c.counts[m] = uint8(length), int(l.count[length])
			m++
		}
	}
	c.solve(m)
	for b := 1; b <= maxClassBits; b++ {
		k := 1 << b
		if at := c.cost[k-1][m-1] + n*b + 8*k; at < limit {
			limit, layout = at, byte(layoutClasses+b)
		}
	}
	if layout == 0 {
		return 0, 0
	}
	// Walk back over the choices; classes that are too many repeat the widest.
	j := m - 1
	for k := 1<<(layout-layoutClasses) - 1; k >= 0; k-- {
		c.best[k] = c.lengths[max(j, 0)]
		j = int(c.from[k][max(j, 0)]) - 1
	}
	slices.Sort(c.best[:1<<(layout-layoutClasses)])
	return layout, limit
}

// solve fills cost and from for the first m lengths.
func (c *classifier) solve(m int) {
	total := 0
	for j := range m {
		total += c.counts[j]
		c.cost[0][j], c.from[0][j] = total*int(c.lengths[j]), 0
	}
	for k := 1; k < maxClasses; k++ {
		for j := range m {
			best, from, within := math.MaxInt, uint8(0), 0
			for i := j; i >= 0; i-- {
				within += c.counts[i]
				at := within * int(c.lengths[j])
				if i > 0 {
					at += c.cost[k-1][i-1]
				}
				if at < best {
					best, from = at, uint8(i)
				}
			}
			c.cost[k][j], c.from[k][j] = best, from
		}
	}
}

// classOf returns for each length the class that holds it.
func classOf(widths []uint8) (of [65]uint8) {
	class := 0
	for length := range of {
		for class < len(widths)-1 && int(widths[class]) < length {
			class++
		}
		of[length] = uint8(class)
	}
	return of
}

// appendClasses appends the residuals of a plan with classes: the widths, the
// classes, the residuals.
func (e *planner) appendClasses(dst []byte, p *plan) []byte {
	dst = append(dst, p.widths...)
	n := len(p.differences)
	e.residuals = slices.Grow(e.residuals[:0], 2*n)[:2*n]
	residuals, classes := e.residuals[:n], e.residuals[n:]
	of := classOf(p.widths)
	signed := p.layout&layoutZigzag != 0
	for i, v := range p.differences {
		r := uint64(v - p.base)
		if signed {
			r = zigzag(int64(r))
		}
		residuals[i], classes[i] = r, uint64(of[bits.Len64(r)])
	}
	dst = appendPacked(dst, classes, int(p.layout&^layoutZigzag-layoutClasses))
	w := bitWriter{dst: dst}
	for i, r := range residuals {
		w.put(r, uint(p.widths[classes[i]]))
	}
	return w.finish()
}
