package tsdbshard

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
)

// A flush file is a sequence of pages (docs/format/flushfile.md). A page's head
// has a checksum of its own, so that a damaged length is found before it is used.
const (
	pageHeadBytes = 1 + 4 + 4 // kind, length of the body, CRC32C of the two
	// pageTarget is the size past which a page is closed.
	pageTarget = 1 << 20
	// maxPageBytes bounds what a reader allocates for one page. A page is
	// closed after the row that reaches pageTarget, so only a giant row gets
	// near it.
	maxPageBytes = 1 << 30
)

type pageKind uint8

const (
	pageHeader      pageKind = 1
	pageDefinitions pageKind = 2
	pageSeries      pageKind = 3
	pageExemplars   pageKind = 4
	pageMetadata    pageKind = 5
	pageEnd         pageKind = 6
)

func (k pageKind) String() string {
	switch k {
	case pageHeader:
		return "header"
	case pageDefinitions:
		return "definitions"
	case pageSeries:
		return "series"
	case pageExemplars:
		return "exemplars"
	case pageMetadata:
		return "metadata"
	case pageEnd:
		return "end"
	}
	return fmt.Sprintf("pageKind(%d)", uint8(k))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pageWriter writes pages and sums up the file.
type pageWriter struct {
	w      io.Writer
	sha    hash.Hash
	rollup uint32
	bytes  uint64
	pages  int
}

func newPageWriter(w io.Writer) *pageWriter {
	sha := sha256.New()
	return &pageWriter{w: io.MultiWriter(w, sha), sha: sha}
}

func (p *pageWriter) write(kind pageKind, body []byte) error {
	if len(body) > maxPageBytes {
		return fmt.Errorf("%v page of %d bytes is over the limit of %d", kind, len(body), maxPageBytes)
	}
	var frame [pageHeadBytes]byte
	frame[0] = byte(kind)
	binary.LittleEndian.PutUint32(frame[1:], uint32(len(body)))
	binary.LittleEndian.PutUint32(frame[5:], crc32.Checksum(frame[:5], castagnoli))
	sum := crc32.Update(crc32.Checksum(frame[:5], castagnoli), castagnoli, body)
	var tail [4]byte
	binary.LittleEndian.PutUint32(tail[:], sum)
	for _, b := range [][]byte{frame[:], body, tail[:]} {
		if _, err := p.w.Write(b); err != nil {
			return err
		}
	}
	p.rollup = crc32.Update(p.rollup, castagnoli, tail[:])
	p.bytes += uint64(len(frame) + len(body) + len(tail))
	p.pages++
	return nil
}

// pageReader reads pages and checks each.
type pageReader struct {
	r      io.Reader
	rollup uint32
	bytes  uint64
	pages  int
}

// next reads one page; its body is the caller's to keep.
func (p *pageReader) next() (pageKind, []byte, error) {
	var frame [pageHeadBytes]byte
	if _, err := io.ReadFull(p.r, frame[:]); err != nil {
		return 0, nil, fmt.Errorf("page %d: head: %w", p.pages, asDamage(err))
	}
	head := crc32.Checksum(frame[:5], castagnoli)
	if want := binary.LittleEndian.Uint32(frame[5:]); head != want {
		return 0, nil, fmt.Errorf("page %d: %w: checksum of its head is %08x, its bytes give %08x", p.pages, ErrDamaged, want, head)
	}
	kind, n := pageKind(frame[0]), binary.LittleEndian.Uint32(frame[1:])
	if n > maxPageBytes {
		return kind, nil, fmt.Errorf("page %d (%v): %w: length %d", p.pages, kind, ErrDamaged, n)
	}
	body, err := readExactly(p.r, int(n)+4)
	if err != nil {
		return kind, nil, fmt.Errorf("page %d (%v): %w", p.pages, kind, asDamage(err))
	}
	body, tail := body[:n:n], body[n:]
	if got, want := crc32.Update(head, castagnoli, body), binary.LittleEndian.Uint32(tail); got != want {
		return kind, nil, fmt.Errorf("page %d (%v): %w: checksum is %08x, its bytes give %08x", p.pages, kind, ErrDamaged, want, got)
	}
	p.rollup = crc32.Update(p.rollup, castagnoli, tail)
	p.bytes += uint64(pageHeadBytes) + uint64(n) + 4
	p.pages++
	return kind, body, nil
}

// readExactly reads n bytes without believing n before they are there.
func readExactly(r io.Reader, n int) ([]byte, error) {
	const step = 4 * pageTarget
	b := make([]byte, 0, min(n, step))
	for len(b) < n {
		from := len(b)
		to := min(n, from+step)
		if to > cap(b) {
			grown := make([]byte, from, min(n, 2*cap(b)))
			copy(grown, b)
			b = grown
			to = min(to, cap(b))
		}
		b = b[:to]
		if _, err := io.ReadFull(r, b[from:]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// asDamage makes an early end of a file an ErrDamaged.
func asDamage(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the file ends early", ErrDamaged)
	}
	return err
}
