package block

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/zstd"

	"github.com/quorate/quorate/internal/cursor"
)

// A page on disk (docs/format/block.md): kind, flags, length of the body, body,
// checksum. All of a block's bytes but the footer are pages.
const (
	pageHeadBytes  = 1 + 1 + 4
	pageTailBytes  = 4 // CRC32C of everything before it
	pageFrameBytes = pageHeadBytes + pageTailBytes

	// maxBodyBytes bounds a page's body before compression. Pages are closed
	// far below it; what it is for is a single giant row.
	maxBodyBytes = 1 << 28

	flagZstd = 1 // the body is its length before compression and a zstd frame
)

// pageKind is what a page's rows are.
type pageKind uint8

// The kinds of pages. The numbers stand in files.
const (
	pageHeader      pageKind = 1
	pageDefinitions pageKind = 2 // delta: labels of the series that it defines
	pageNewest      pageKind = 3 // delta: newest sample of each series
	pageSamples     pageKind = 4
	pageExemplars   pageKind = 5
	pageMetadata    pageKind = 6
	pageShapes      pageKind = 7  // canonical: timestamps that chunks share
	pageSeries      pageKind = 8  // canonical: labels and shapes of the series
	pageNames       pageKind = 9  // canonical: label names of a tenant
	pageValues      pageKind = 10 // canonical: values of the label names
	pagePostings    pageKind = 11 // canonical: series of each label pair
	pageDirectory   pageKind = 12
	pageKinds                = 13
)

func (k pageKind) String() string {
	names := [...]string{
		pageHeader: "header", pageDefinitions: "definitions", pageNewest: "newest", pageSamples: "samples",
		pageExemplars: "exemplars", pageMetadata: "metadata", pageShapes: "shapes", pageSeries: "series",
		pageNames: "names", pageValues: "values", pagePostings: "postings", pageDirectory: "directory",
	}
	if int(k) < len(names) && names[k] != "" {
		return names[k]
	}
	return fmt.Sprintf("pageKind(%d)", uint8(k))
}

// checksum is the CRC32C of bytes.
func checksum(b []byte) uint32 {
	// Making the table is a look-up after the first time.
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// leastCompressed is the least body that is compressed. Besides that less is
// not worth it, the encoder leaves the length out of smaller frames.
const leastCompressed = 256

// appendPage appends a page as it stands in files. With compress it is kept
// compressed if that saves a tenth or more; below that the time to decompress
// it buys nothing.
func appendPage(dst []byte, kind pageKind, body []byte, compress bool) ([]byte, error) {
	if len(body) > maxBodyBytes {
		return dst, fmt.Errorf("%v page of %d bytes is over the limit of %d", kind, len(body), maxBodyBytes)
	}
	from := len(dst)
	dst = append(dst, byte(kind), 0, 0, 0, 0, 0)
	at := len(dst)
	compress = compress && len(body) >= leastCompressed
	if compress {
		dst = zstd.EncodeTo(binary.AppendUvarint(dst, uint64(len(body))), body)
		dst[from+1] = flagZstd
	}
	if !compress || len(dst)-at > len(body)-len(body)/10 {
		dst = append(dst[:at], body...)
		dst[from+1] = 0
	}
	binary.LittleEndian.PutUint32(dst[from+2:], uint32(len(dst)-at))
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[from:])), nil
}

// pageBody checks a page as it stands in a file and returns its body, which
// may alias it.
func pageBody(page []byte, want pageKind) ([]byte, error) {
	if len(page) < pageFrameBytes {
		return nil, fmt.Errorf("%w: page of %d bytes", ErrDamaged, len(page))
	}
	framed, tail := page[:len(page)-pageTailBytes], page[len(page)-pageTailBytes:]
	if got, want := checksum(framed), binary.LittleEndian.Uint32(tail); got != want {
		return nil, fmt.Errorf("%w: checksum is %08x, its bytes give %08x", ErrDamaged, want, got)
	}
	kind, flags, n := pageKind(framed[0]), framed[1], binary.LittleEndian.Uint32(framed[2:])
	body := framed[pageHeadBytes:]
	if kind != want || flags&^flagZstd != 0 || uint64(n) != uint64(len(body)) {
		return nil, fmt.Errorf("%w: it is a page of kind %v, flags %#x, %d bytes", ErrDamaged, kind, flags, n)
	}
	if flags&flagZstd == 0 {
		return body, nil
	}
	return decompress(body)
}

// decompress decompresses what appendPage compressed. It believes the length
// that is promised only as far as the compressed frame promises the same.
func decompress(body []byte) ([]byte, error) {
	c := cursor.Cursor{B: body}
	n := c.Uvarint()
	var h zstd.Header
	if err := h.Decode(c.B); c.Bad || err != nil || n > maxBodyBytes || !h.HasFCS || h.FrameContentSize != n {
		return nil, fmt.Errorf("%w: bad length of a compressed page", ErrDamaged)
	}
	if most, one := frameBound(c.B, &h); !one || n > most {
		return nil, fmt.Errorf("%w: not one frame of %d bytes", ErrDamaged, n)
	}
	raw, err := zstd.DecodeTo(make([]byte, 0, n), c.B)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if uint64(len(raw)) != n {
		return nil, fmt.Errorf("%w: %d bytes decompressed, want %d", ErrDamaged, len(raw), n)
	}
	return raw, nil
}

// frameBound tells whether bytes are one zstd frame with nothing after it, and
// how many bytes its blocks can give at most. The decoder goes on to whatever
// frames follow, each as large as it says itself; a page is one, and so never
// takes more memory than its length before compression.
func frameBound(b []byte, h *zstd.Header) (most uint64, one bool) {
	const (
		headBytes    = 3
		mostOfBlock  = 128 << 10
		typeRaw      = 0
		typeRLE      = 1 // one byte, repeated
		typeReserved = 3
	)
	tail := 0
	if h.HasCheckSum {
		tail = 4
	}
	b = b[h.HeaderSize:]
	for len(b) >= headBytes {
		head := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
		last, kind, size := head&1 != 0, head>>1&3, int(head>>3)
		b = b[headBytes:]
		stored, gives := size, mostOfBlock
		switch kind {
		case typeRaw:
			gives = size
		case typeRLE:
			stored, gives = 1, size
		case typeReserved:
			return 0, false
		}
		if stored > len(b) || gives > mostOfBlock {
			return 0, false
		}
		b, most = b[stored:], most+uint64(gives)
		if last {
			return most, len(b) == tail
		}
	}
	return 0, false
}
