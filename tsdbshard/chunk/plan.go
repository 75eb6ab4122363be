package chunk

import (
	"math"
	"math/bits"
	"slices"
)

// plan is how the steps of a column are encoded.
type plan struct {
	shape shape
	// layout is the layout byte.
	layout byte
	// width is that of all packed residuals, or of their classes.
	width int
	// base is subtracted from the differences; of what choose returns it is
	// their centre.
	base int64
	// second is the first step if the differences are deltas2.
	second int64
	// differences are the numbers in this shape, n-1 for n numbers, or n-2.
	differences []int64
	// widths are those of the classes, ascending.
	widths []uint8
	// cost is the estimated length in bits.
	cost int
}

// packed tells whether more than the base is written.
func (p *plan) packed() bool { return p.layout != 0 }

// planner chooses plans and keeps its scratch space.
type planner struct {
	differences []int64 // of other shapes than deltas
	lengths     lengths
	classes     classifier
	// residuals and the patches of the plan that is written.
	residuals []uint64
	patches   []patch
}

// shortColumn is up to how many steps a column is not looked at twice unless it
// promises much: the columns of a memcache are encoded once for each sample.
const shortColumn = 32

// minPatchBits is what a patch costs at least.
const minPatchBits = 16

// plan chooses how the steps between two numbers or more are encoded; factor
// was divided out of them.
func (e *planner) plan(x, steps []int64, factor uint64) plan {
	p, sum := e.choose(x, steps, factor)
	n := len(p.differences)
	least, greatest := p.differences[0], p.differences[0]
	for _, v := range p.differences[1:] {
		least, greatest = min(least, v), max(greatest, v)
	}
	width := widthOf(bits.Len64(uint64(greatest - least)))
	centre := p.base
	p.layout, p.width, p.base = byte(width), width, least
	if width == fullWidth {
		p.base = 0 // it would save nothing
	}
	p.cost = n*width + varintBits(p.base)
	if width == 0 || n <= shortColumn && n*(width-2) <= sum+2*minPatchBits {
		return p
	}
	e.lengths.measure(p.differences, centre)
	if inner, cost := e.lengths.fixed(n); inner < e.lengths.longest {
		e.patch(&p, centre, inner, cost)
	}
	if n >= minClassRows {
		e.classes.improve(&p, least, centre, &e.lengths)
	}
	return p
}

// choose returns a plan with the shape whose differences are the shortest, in
// the sum of their bits, and their centre for a base. They are measured from a
// middle one, which a counter's reset does not move; nor do a few outliers move
// the sum of lengths much.
func (e *planner) choose(x, steps []int64, factor uint64) (p plan, sum int) {
	p = plan{shape: deltas, differences: steps, base: middle(steps)}
	if len(steps) < 3 {
		return p, 0
	}
	offset, second := middle(x[1:])-x[0], middleStep(steps)
	if factor > 1 {
		offset /= int64(factor)
	}
	sums := e.sums(steps, offset, p.base, second)
	sum = sums[deltas]
	cost := sum + varintBits(p.base)
	if c := sums[offsets] + varintBits(offset); c < cost {
		p.shape, p.base = offsets, offset
		sum, cost = sums[offsets], c
	}
	// Deltas of noise are noise with two signs and another bit, which the sums
	// do not tell of.
	if c := sums[deltas2] + len(steps) + varintBits(second) + varintBits(steps[0]); c < cost {
		p.shape, p.base, p.second = deltas2, second, steps[0]
		sum = sums[deltas2]
	}
	p.differences = e.differ(p.shape, steps)
	return p, sum
}

// sums returns the sums of the lengths of the differences of each shape, less
// their centres. Of long columns every fourth is looked at.
func (e *planner) sums(steps []int64, offset, delta, second int64) (sums [3]int) {
	length := func(v int64) int { return bits.Len64(zigzag(v)) }
	total, before := int64(0), steps[0]
	if len(steps) <= 2*shortColumn {
		for _, d := range steps {
			total += d
			sums[offsets] += length(total - offset)
			sums[deltas] += length(d - delta)
			sums[deltas2] += length(d - before - second)
			before = d
		}
		return sums
	}
	for ; len(steps) >= 4; steps = steps[4:] {
		d := steps[3]
		total += steps[0] + steps[1] + steps[2] + d
		sums[offsets] += 4 * length(total-offset)
		sums[deltas] += 4 * length(d-delta)
		sums[deltas2] += 4 * length(d-steps[2]-second)
	}
	return sums
}

// differ computes the differences of a shape.
func (e *planner) differ(s shape, steps []int64) []int64 {
	switch s {
	case offsets:
		out, total := e.space(len(steps)), int64(0)
		for i, d := range steps {
			total += d
			out[i] = total
		}
		return out
	case deltas2:
		out, before := e.space(len(steps)-1), steps[0]
		for i, d := range steps[1:] {
			out[i] = d - before
			before = d
		}
		return out
	case deltas, constant:
	}
	return steps
}

func (e *planner) space(n int) []int64 {
	e.differences = slices.Grow(e.differences[:0], n)[:n]
	return e.differences
}

// middle returns the median of five of the numbers.
func middle(n []int64) int64 {
	last := len(n) - 1
	return median(n[0], n[last/4], n[last/2], n[last*3/4], n[last])
}

// middleStep returns the median of five of the differences of three numbers or more.
func middleStep(n []int64) int64 {
	last := len(n) - 2
	at := func(i int) int64 { return n[i+1] - n[i] }
	return median(at(0), at(last/4), at(last/2), at(last*3/4), at(last))
}

func median(a, b, c, d, e int64) int64 {
	// The least and the greatest of four are not the median of five.
	a, b = min(a, b), max(a, b)
	c, d = min(c, d), max(c, d)
	low, high := max(a, c), min(b, d)
	// It is that of the others and the fifth.
	return max(min(low, high), min(max(low, high), e))
}

// patch lets the plan have patches if that costs less: the width becomes what
// the differences take that are no longer than inner bits from the centre.
func (e *planner) patch(p *plan, centre int64, inner, cost int) {
	fits := uint64(1)<<uint(inner) - 1
	least, greatest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, v := range p.differences {
		if zigzag(v-centre) <= fits {
			least, greatest = min(least, v), max(greatest, v)
		}
	}
	if least > greatest {
		return
	}
	width := widthOf(bits.Len64(uint64(greatest - least)))
	cost += varintBits(least) - len(p.differences)*(widthOf(inner)-width)
	if cost < p.cost {
		p.layout, p.width, p.base, p.cost = byte(width)|layoutPatched, width, least, cost
	}
}

// lengths counts numbers by their length in bits.
type lengths struct {
	count   [65]uint16
	longest int
}

// measure counts the zigzagged differences from a centre.
func (l *lengths) measure(numbers []int64, centre int64) {
	clear(l.count[:])
	all := uint64(0)
	for _, v := range numbers {
		z := zigzag(v - centre)
		all |= z
		l.count[bits.Len64(z)]++
	}
	l.longest = bits.Len64(all)
}

// measureAbove counts the numbers less the least of them.
func (l *lengths) measureAbove(numbers []int64, least int64) {
	clear(l.count[:])
	all := uint64(0)
	for _, v := range numbers {
		z := uint64(v - least)
		all |= z
		l.count[bits.Len64(z)]++
	}
	l.longest = bits.Len64(all)
}

// fixed returns the width at which n numbers cost the least, the longer ones
// among them being patched, and that cost in bits; longest if without patches.
func (l *lengths) fixed(n int) (width, cost int) {
	width, cost = l.longest, n*widthOf(l.longest)
	patches, varints := 0, 0
	for w := l.longest - 1; w >= 0; w-- {
		if c := int(l.count[w+1]); c > 0 {
			patches += c
			varints += c * (8 + 8*varintBytes(w+1))
		}
		gap := max(1, bits.Len(uint(n))-bits.Len(uint(patches))+2)
		if at := n*widthOf(w) + 8 + min(varints, 24+patches*(gap+l.longest)); at < cost {
			width, cost = w, at
		}
	}
	return width, cost
}

// sum returns the lengths of all numbers together.
func (l *lengths) sum() int {
	total := 0
	for length := 1; length <= l.longest; length++ {
		total += int(l.count[length]) * length
	}
	return total
}

// varintBytes returns the length of the varint of a number of so many bits.
func varintBytes(bits int) int { return max(1, (bits+6)/7) }

// varintBits returns the bits that the signed varint of v takes.
func varintBits(v int64) int { return 8 * varintBytes(bits.Len64(zigzag(v))) }
