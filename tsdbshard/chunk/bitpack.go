package chunk

import (
	"encoding/binary"
	"slices"
)

// Numbers are packed with a fixed width, lowest bits first, as one long
// little-endian number. Widths go to maxWidth, up to which any packed number
// lies within the 8 bytes from its first byte on, so that one load and one
// shift read it; beyond that the width is fullWidth, for which each number has
// its own 8 bytes.
const (
	maxWidth  = 56
	fullWidth = 64
)

// widthOf rounds a number of bits up to a width that is packed.
func widthOf(bits int) int {
	if bits > maxWidth {
		return fullWidth
	}
	return bits
}

// packedBytes returns the length of n packed numbers.
func packedBytes(n, width int) int { return (n*width + 7) >> 3 }

// appendPacked appends numbers that fit the width.
func appendPacked(dst []byte, numbers []uint64, width int) []byte {
	if width == 0 {
		return dst
	}
	from, size := len(dst), packedBytes(len(numbers), width)
	dst = slices.Grow(dst, size+8) // whole words are written
	dst = dst[:from+size+8]
	out := dst[from:]
	var word uint64
	fill := uint(0) // bits of word that are taken
	for _, v := range numbers {
		word |= v << (fill & 63)
		fill += uint(width)
		if fill >= 64 {
			binary.LittleEndian.PutUint64(out, word)
			out = out[8:]
			fill -= 64
			word = v >> ((uint(width) - fill) & 63)
			if fill == 0 {
				word = 0
			}
		}
	}
	binary.LittleEndian.PutUint64(out, word)
	return dst[:from+size]
}

// unpack reads len(dst) numbers from src, which has exactly packedBytes of them.
func unpack(dst []int64, src []byte, width int) {
	switch width {
	case 0:
		clear(dst)
		return
	case fullWidth:
		for i := range dst {
			dst[i] = int64(binary.LittleEndian.Uint64(src[8*i:]))
		}
		return
	}
	i, at := 0, uint(0)
	switch {
	case width <= 7:
		i = unpackEights(dst, src, uint(width))
		at = uint(i * width)
	case width <= 14:
		i = unpackFours(dst, src, uint(width))
		at = uint(i * width)
	}
	mask, step := uint64(1)<<uint(width)-1, uint(width)
	for ; i < len(dst) && at>>3+8 <= uint(len(src)); i++ {
		dst[i] = int64(binary.LittleEndian.Uint64(src[at>>3:]) >> (at & 7) & mask)
		at += step
	}
	if i == len(dst) {
		return
	}
	// What is left begins in the last 8 bytes.
	var last [8]byte
	copy(last[:], src[at>>3:])
	word := binary.LittleEndian.Uint64(last[:]) >> (at & 7)
	for ; i < len(dst); i++ {
		dst[i] = int64(word & mask)
		word >>= step
	}
}

// unpackEights unpacks numbers of up to 7 bits by eights, which are whole bytes
// and lie in one word, and returns how many. It is unrolled since the shift and
// the mask of a number take no longer than going round the loop.
func unpackEights(dst []int64, src []byte, width uint) int {
	mask := uint64(1)<<width - 1
	width &= 63 // so that no shift asks how far
	n := 0
	for ; len(dst)-n >= 8 && len(src) >= 8; n += 8 {
		word := binary.LittleEndian.Uint64(src)
		out := (*[8]int64)(dst[n:])
		out[0] = int64(word & mask)
		word >>= width
		out[1] = int64(word & mask)
		word >>= width
		out[2] = int64(word & mask)
		word >>= width
		out[3] = int64(word & mask)
		word >>= width
		out[4] = int64(word & mask)
		word >>= width
		out[5] = int64(word & mask)
		word >>= width
		out[6] = int64(word & mask)
		word >>= width
		out[7] = int64(word & mask)
		src = src[width:]
	}
	return n
}

// unpackFours unpacks numbers of 8 to 14 bits by eights too, which lie in two
// words of four.
func unpackFours(dst []int64, src []byte, width uint) int {
	mask := uint64(1)<<width - 1
	width &= 63                       // so that no shift asks how far
	half, odd := width/2, 4*(width&1) // bytes and bits of four numbers
	n := 0
	for ; len(dst)-n >= 8 && uint(len(src)) >= half+8; n += 8 {
		low := binary.LittleEndian.Uint64(src)
		high := binary.LittleEndian.Uint64(src[half:]) >> odd
		out := (*[8]int64)(dst[n:])
		out[0], out[4] = int64(low&mask), int64(high&mask)
		low, high = low>>width, high>>width
		out[1], out[5] = int64(low&mask), int64(high&mask)
		low, high = low>>width, high>>width
		out[2], out[6] = int64(low&mask), int64(high&mask)
		low, high = low>>width, high>>width
		out[3], out[7] = int64(low&mask), int64(high&mask)
		src = src[width:]
	}
	return n
}

// unpackClasses reads numbers of changing width, as bitWriter packs them, in the
// place of their classes, of which widths has the widths. src has exactly the
// bytes of all.
func unpackClasses(dst []int64, src []byte, widths *[maxClasses]uint8) {
	at := uint(0)
	for i, class := range dst {
		width := uint(widths[class&(maxClasses-1)])
		from := at >> 3
		var word uint64
		if from+8 <= uint(len(src)) {
			word = binary.LittleEndian.Uint64(src[from:]) >> (at & 7)
			if over := width + at&7; over > 64 {
				word |= uint64(src[from+8]) << (64 - at&7)
			}
		} else {
			var last [8]byte
			copy(last[:], src[min(from, uint(len(src))):])
			word = binary.LittleEndian.Uint64(last[:]) >> (at & 7)
		}
		dst[i] = int64(word & (1<<width - 1))
		at += width
	}
}

// bitWriter appends numbers of changing width, as appendPacked does those of
// one width.
type bitWriter struct {
	dst  []byte
	word uint64
	fill uint // bits of word that are taken, below 64
}

// put appends the low width bits of a number that has no others.
func (w *bitWriter) put(v uint64, width uint) {
	w.word |= v << w.fill
	if w.fill += width; w.fill < 64 {
		return
	}
	w.dst = binary.LittleEndian.AppendUint64(w.dst, w.word)
	w.fill -= 64
	w.word = v >> (width - w.fill) // 0 by a shift of 64
}

// finish appends what is left and returns the bytes.
func (w *bitWriter) finish() []byte {
	for n := int(w.fill+7) >> 3; n > 0; n-- {
		w.dst = append(w.dst, byte(w.word))
		w.word >>= 8
	}
	return w.dst
}
