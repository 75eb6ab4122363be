package mix

import (
	"math"
	"math/rand/v2"
)

// Kind is how the values of a series move.
type Kind uint8

// The kinds of series. Shares says how frequent they are in the mix.
const (
	IntegerCounter Kind = iota // whole numbers, a rate of its own between 0.05/s and 100/s, uneven
	SecondsCounter             // seconds of busy time, three decimals
	DecimalGauge               // wanders, two or three decimals
	ByteGauge                  // wanders, multiples of 4096
	Constant                   // never moves
	BucketCounter              // moves in one scrape of twenty
	FullMantissa               // a gauge that uses all 53 bits
)

// The kinds that are in no mix: what encodings of fixed width are bad at.
const (
	SparseCounter  Kind = FullMantissa + 1 + iota // does not move in nine of ten scrapes, else by a Pareto distributed step
	LognormalSteps                                // counter whose steps are lognormal(3,2): heavy tailed
	JumpingGauge                                  // a decimal gauge of which one value in fifty is an outlier
	FloatSum                                      // a sum of full floats, as of a histogram's _sum
	StaleGauge                                    // a decimal gauge with stale markers and NaNs in between
)

// kinds are those of the mix, all those of both.
const (
	kinds = int(FullMantissa) + 1
	all   = int(StaleGauge) + 1
)

// shares are how many of a hundred series are of each kind of the mix.
var shares = [kinds]int{IntegerCounter: 30, SecondsCounter: 10, DecimalGauge: 15, ByteGauge: 8, Constant: 17, BucketCounter: 17, FullMantissa: 3}

var names = [all]string{
	"integer counter", "seconds counter", "decimal gauge", "byte gauge", "constant", "bucket counter", "full mantissa",
	"sparse counter", "lognormal steps", "jumping gauge", "float sum", "stale gauge",
}

// String returns the kind's name.
func (k Kind) String() string { return names[k] }

// Kinds returns the kinds of the mix.
func Kinds() []Kind { return sequence(0, kinds) }

// Adversaries returns the kinds that are in no mix.
func Adversaries() []Kind { return sequence(kinds, all) }

func sequence(from, to int) []Kind {
	var list []Kind
	for k := from; k < to; k++ {
		list = append(list, Kind(k))
	}
	return list
}

// KindOf returns the kind of a series of the mix. Kinds alternate, so that any
// hundred series in a row have all of them in their shares.
func KindOf(series int) Kind {
	at := series * 37 % 100 // 37 and 100 have no common factor
	for k, share := range shares {
		if at -= share; at < 0 {
			return Kind(k)
		}
	}
	return FullMantissa
}

// Series generates one series' values, scrape by scrape.
type Series struct {
	kind Kind
	rng  *rand.Rand
	// value is what the series counts or measures, in units of 1/scale.
	value, scale float64
	// rate is the mean step of a counter, the spread of a gauge's steps.
	rate float64
}

// NewSeries returns the series of a number, of the kind that KindOf gives it.
func NewSeries(seed uint64, series int) *Series { return NewSeriesOf(KindOf(series), seed, series) }

// NewSeriesOf returns a series of the given kind.
func NewSeriesOf(kind Kind, seed uint64, series int) *Series {
	s := &Series{kind: kind, rng: rand.New(rand.NewPCG(seed, uint64(series))), scale: 1}
	switch kind {
	case IntegerCounter:
		s.rate = 15 * s.logUniform(0.05, 100)
		s.value = math.Round(s.rate * s.logUniform(10, 50_000))
	case SecondsCounter:
		s.scale, s.rate = 1000, 15_000*s.logUniform(0.01, 1)
		s.value = math.Round(s.rate * s.logUniform(10, 50_000))
	case DecimalGauge, JumpingGauge, StaleGauge:
		s.scale = []float64{100, 1000}[s.rng.IntN(2)]
		s.value = math.Round(s.scale * s.logUniform(1, 1000))
		s.rate = max(2, s.value*0.01)
	case ByteGauge:
		s.value = math.Round(s.logUniform(1<<8, 1<<20))
		s.rate = max(1, s.value*0.005)
	case Constant:
		s.value = []float64{0, 1, 1, 1, 512, 65_536, 1_048_576, 1_754_000_000}[s.rng.IntN(8)]
	case BucketCounter, SparseCounter, LognormalSteps:
		s.value = math.Round(s.logUniform(1, 100_000))
	case FullMantissa:
		s.value = s.rng.Float64()
	case FloatSum:
		s.value, s.rate = s.logUniform(1, 100_000), s.logUniform(0.001, 10)
	}
	return s
}

// Kind returns the kind of the series.
func (s *Series) Kind() Kind { return s.kind }

// Next returns the value of the next scrape.
func (s *Series) Next() float64 {
	switch s.kind {
	case IntegerCounter:
		s.value += s.poisson(s.rate * math.Exp(0.2*s.rng.NormFloat64()))
	case SecondsCounter:
		s.value += max(0, math.Round(s.rate*(1+0.1*s.rng.NormFloat64())))
	case DecimalGauge:
		s.value += math.Round(s.rate * s.rng.NormFloat64())
	case ByteGauge:
		if s.rng.IntN(4) > 0 {
			s.value = max(0, s.value+math.Round(s.rate*s.rng.NormFloat64()))
		}
		return s.value * 4096
	case BucketCounter:
		if s.rng.IntN(20) == 0 {
			s.value += 1 + math.Floor(s.rng.ExpFloat64())
		}
	case FullMantissa:
		s.value += 0.01 * s.rng.NormFloat64()
	default:
		return s.adversary()
	}
	return s.value / s.scale
}

func (s *Series) adversary() float64 {
	switch s.kind {
	case SparseCounter:
		if s.rng.IntN(10) == 0 {
			s.value += math.Round(10 * math.Pow(1-s.rng.Float64(), -1/1.2))
		}
	case LognormalSteps:
		s.value += math.Round(math.Exp(3 + 2*s.rng.NormFloat64()))
	case JumpingGauge, StaleGauge:
		s.value += math.Round(s.rate * s.rng.NormFloat64())
		if s.rng.IntN(50) == 0 {
			return s.odd()
		}
	default:
		s.value += s.rate * s.rng.ExpFloat64()
	}
	return s.value / s.scale
}

// odd is a value out of the series' order.
func (s *Series) odd() float64 {
	if s.kind == JumpingGauge {
		return math.Round(s.value*1000*s.rng.Float64()) / s.scale
	}
	return math.Float64frombits([]uint64{0x7ff0000000000002, 0x7ff8000000000001}[s.rng.IntN(2)]) // stale, NaN
}

// Timestamps returns the timestamps in ms of n scrapes of a target, step ms
// apart from start on. One of ten is a few ms late. All series of a target
// share them.
func Timestamps(seed uint64, target int, start, step int64, n int) []int64 {
	rng := rand.New(rand.NewPCG(^seed, uint64(target)))
	times := make([]int64, n)
	for i := range times {
		times[i] = start + int64(i)*step
		if rng.IntN(10) == 0 {
			times[i] += 1 + rng.Int64N(5)
		}
	}
	return times
}

func (s *Series) logUniform(low, high float64) float64 {
	return low * math.Pow(high/low, s.rng.Float64())
}

// poisson draws from the Poisson distribution, by the normal one where that is
// no different for the purpose.
func (s *Series) poisson(mean float64) float64 {
	if mean > 50 {
		return max(0, math.Round(mean+math.Sqrt(mean)*s.rng.NormFloat64()))
	}
	n, product := 0.0, s.rng.Float64()
	for limit := math.Exp(-mean); product > limit; n++ {
		product *= s.rng.Float64()
	}
	return n
}
