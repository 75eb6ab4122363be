package remote

import (
	"hash/maphash"
	"math/bits"

	"github.com/quorate/quorate/internal/wire"
)

// hasher makes series keys: 128 bits keyed with secrets of this process, so
// that no sender can choose labels that collide. The two protocol versions
// hash different bytes; their secrets differ too, so that the keys of one
// never meet those of the other.
type hasher struct {
	v1 [2]maphash.Seed
	v2 [2]maphash.Seed
	// start and step key the mixing of symbols into series, for each half.
	start, step [2]uint64
	// name is the hash of the symbol "__name__".
	name symbolHash
	// metadata keys the hashes of the metadata cache.
	metadata maphash.Seed
}

// symbolHash is the hash of one symbol of an RW 2.0 request.
type symbolHash struct{ a, b uint64 }

func newHasher() *hasher {
	h := &hasher{metadata: maphash.MakeSeed()}
	for i := range 2 {
		h.v1[i], h.v2[i] = maphash.MakeSeed(), maphash.MakeSeed()
		h.start[i] = maphash.String(h.v2[i], "start of a series")
		h.step[i] = maphash.String(h.v2[i], "step of a series")
	}
	h.name = h.symbol([]byte(metricName))
	return h
}

// labelBytes hashes the labels of an RW 1.0 series as they stand in it.
func (h *hasher) labelBytes(b []byte) wire.SeriesKey {
	return wire.SeriesKey{Hi: maphash.Bytes(h.v1[0], b), Lo: maphash.Bytes(h.v1[1], b)}
}

func (h *hasher) symbol(b []byte) symbolHash {
	return symbolHash{a: maphash.Bytes(h.v2[0], b), b: maphash.Bytes(h.v2[1], b)}
}

// mix adds a label, given by the hashes of its name and value, to a series'
// key. Each half multiplies as wyhash does; the inputs are keyed hashes, of
// which a sender knows nothing.
func (h *hasher) mix(k wire.SeriesKey, name, value symbolHash) wire.SeriesKey {
	return wire.SeriesKey{
		Hi: fold(k.Hi^name.a, value.a^h.step[0]),
		Lo: fold(k.Lo^value.b, name.b^h.step[1]),
	}
}

// startSeries is the key of an RW 2.0 series before its first label.
func (h *hasher) startSeries() wire.SeriesKey {
	return wire.SeriesKey{Hi: h.start[0], Lo: h.start[1]}
}

func fold(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x, y)
	return hi ^ lo
}
