package chunk

import (
	"math"
	"slices"
)

// Most values that are measured are decimal numbers of few digits, however odd
// they look in binary. A value v is scaled by 10^e if there is an integer n of
// which float64(n)/10^e has the very bits of v. That is proven for each value
// by the computation that the decoder makes; it is a division, since that is
// correctly rounded for all n below 2^53 and e up to 22, whereas the product
// with an inexact 10^-e often is another number.

// maxScale is the greatest e. More digits would take as many bits as the
// mantissa has.
const maxScale = 13

var powersOfTen = [maxScale + 1]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13}

const (
	// roundMagic rounds what is added to it to an integer: there are no
	// fractions of this magnitude.
	roundMagic = 3 << 51
	// maxScaled bounds numbers that were scaled, so that roundMagic rounds
	// them right.
	maxScaled = 1 << 51

	// scaleDigitBits is about what a digit more costs for each value of a
	// column, and scaleRareBits what a value costs that is left out: it
	// decides which of both it will be.
	scaleDigitBits = 10.0 / 3
	scaleRareBits  = 80
)

// toInteger returns v if it is an integer.
func toInteger(v float64) (n int64, ok bool) {
	n = int64(v)
	// What a float beyond int64 becomes depends on the processor. MaxInt64 is
	// no float, but on some of them stands for those beyond.
	return n, math.Float64bits(float64(n)) == math.Float64bits(v) && n != math.MaxInt64
}

// scaled returns v times 10^e if that is exact, as above; e is 1 or more.
func scaled(v float64, e int) (n int64, ok bool) {
	power := powersOfTen[e]
	product := float64(v * power) // not to be fused with the addition
	n = int64(math.Float64bits(product+roundMagic)) - int64(math.Float64bits(roundMagic))
	return n, math.Float64bits(float64(n)/power) == math.Float64bits(v) && n < maxScaled && n > -maxScaled
}

// scaleOf returns the least e above after that v can be scaled by, or none.
func scaleOf(v float64, after int) (e int, ok bool) {
	if after < 0 {
		if _, ok := toInteger(v); ok {
			return 0, true
		}
		after = 0
	}
	for e := after + 1; e <= maxScale; e++ {
		if _, ok := scaled(v, e); ok {
			return e, true
		}
	}
	return 0, false
}

// scaler turns values to numbers and keeps its scratch space.
type scaler struct {
	numbers []int64
	rare    rareList
}

// integers scales values that are integers all, and tells whether they are.
func (s *scaler) integers(values []float64) bool {
	s.numbers = slices.Grow(s.numbers[:0], len(values))[:len(values)]
	numbers := s.numbers
	for i, v := range values {
		n, ok := toInteger(v)
		if !ok {
			return false
		}
		numbers[i] = n
	}
	return true
}

// decimals scales values by one power of ten, which it returns; what cannot be
// is in rare. ok is false when that are too many for it to pay.
func (s *scaler) decimals(values []float64) (e int, ok bool) {
	if e, ok = firstScale(values); !ok {
		return 0, false
	}
	for {
		more := s.scale(values, e)
		if more == e {
			return e, !s.tooOdd(len(values))
		}
		e = more
	}
}

// scale scales values by 10^e. It gives up when enough values were seen that
// need more digits, and returns how many.
func (s *scaler) scale(values []float64, e int) (better int) {
	s.rare.reset()
	numbers := s.numbers[:0]
	longer, longest := 0, e
	for i, v := range values {
		var n int64
		var ok bool
		if e == 0 {
			n, ok = toInteger(v)
		} else {
			n, ok = scaled(v, e)
		}
		if ok {
			numbers = append(numbers, n)
			continue
		}
		if !s.rare.add(i, v) || isSpecial(v) {
			continue
		}
		need, ok := scaleOf(v, e)
		if !ok {
			if s.tooOdd(len(values)) {
				break
			}
			continue
		}
		longer++
		longest = max(longest, need)
		if float64(longer*scaleRareBits) > float64(len(values)*(longest-e))*scaleDigitBits {
			return longest
		}
	}
	s.numbers = numbers
	return e
}

// tooOdd tells whether so many of n values are in rare by their bits that to
// take the bits of all is shorter.
func (s *scaler) tooOdd(n int) bool { return 8*s.rare.raw > n }

// firstScale guesses the scale of a column from a few values of it: the median
// of what they need. ok is false when most cannot be scaled.
func firstScale(values []float64) (e int, ok bool) {
	const most = 7
	var needs [most]int
	n, samples := 0, most
	if len(values) <= shortColumn {
		samples = 3
	}
	for i := range samples {
		v := values[i*(len(values)-1)/(samples-1)]
		if isSpecial(v) {
			continue
		}
		need, ok := scaleOf(v, -1)
		if !ok {
			need = maxScale + 1
		}
		needs[n] = need
		n++
	}
	if n == 0 {
		return 0, true
	}
	slices.Sort(needs[:n])
	e = needs[n/2]
	return e, e <= maxScale
}

// orderedBits returns a value's bits as a number, in the order of the values.
func orderedBits(v float64) int64 {
	b := int64(math.Float64bits(v))
	return b ^ int64(uint64(b>>63)>>1)
}

// fromOrderedBits is the inverse of orderedBits.
func fromOrderedBits(n int64) float64 {
	return math.Float64frombits(uint64(n ^ int64(uint64(n>>63)>>1)))
}

// mantissas takes the bits of values for numbers; NaNs, infinities and zeros
// are in rare, since they would lie far from the others.
func (s *scaler) mantissas(values []float64) {
	s.rare.reset()
	numbers := s.numbers[:0]
	for i, v := range values {
		if v == 0 || v-v != 0 { // NaN for NaN and infinities
			s.rare.add(i, v)
			continue
		}
		numbers = append(numbers, orderedBits(v))
	}
	s.numbers = numbers
}
