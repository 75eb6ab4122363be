package block

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/quorate/quorate/internal/cursor"
)

// pageEntry is what the directory says of one page. An opened block keeps one
// of 48 bytes for each of its pages, and nothing else that grows with it.
type pageEntry struct {
	offset     int64
	mint, maxt int64  // of the samples in a samples page
	length     uint32 // of the whole page
	checksum   uint32
	first      uint32 // number of its first row
	rows       uint32
	// continued: its first row began in the page before.
	continued bool
}

// section is the pages of one kind, in order.
type section struct {
	pages []pageEntry
	// keys are, in values and metadata pages, a key at most that of the page's
	// first row and greater than that of the last row of the page before.
	keys []string
}

// find returns the first page that may hold the row of a number, -1 for none.
func (s *section) find(number uint32) int {
	i := sort.Search(len(s.pages), func(i int) bool { return s.pages[i].first > number }) - 1
	for i > 0 && s.pages[i].first == number && s.pages[i].continued {
		i--
	}
	return i
}

// hasKey tells of which kinds of pages the directory has keys.
func (k pageKind) hasKey() bool { return k == pageValues || k == pageMetadata }

// hasTimes tells of which kinds of pages the directory has times.
func (k pageKind) hasTimes() bool { return k == pageSamples }

// directory is what a block's last page says: which pages there are, in the
// order of the file, and what they add up to.
type directory struct {
	header   header
	sections [pageKinds]section
	summary  Summary
	tenants  *tenantTable // nil in a delta block
	pages    int          // all but the directory's own
	end      int64        // of the last of them
}

const entryContinued = 0x80 // flag in an entry's kind

// directoryWriter encodes a directory while its pages are written.
type directoryWriter struct {
	entries  []byte
	pages    int
	previous [pageKinds]uint32 // first row of the last page of each kind
	lastMint int64
	tenants  []byte // encoded entries
}

func (d *directoryWriter) add(kind pageKind, e *pageEntry, key string) {
	flags := byte(kind)
	if e.continued {
		flags |= entryContinued
	}
	b := append(d.entries, flags)
	b = binary.AppendUvarint(b, uint64(e.length))
	b = binary.LittleEndian.AppendUint32(b, e.checksum)
	b = binary.AppendUvarint(b, uint64(e.first-d.previous[kind]))
	b = binary.AppendUvarint(b, uint64(e.rows))
	if kind.hasTimes() {
		b = binary.AppendVarint(b, e.mint-d.lastMint)
		b = binary.AppendUvarint(b, uint64(e.maxt-e.mint))
		d.lastMint = e.mint
	}
	if kind.hasKey() {
		b = cursor.AppendBytes(b, key)
	}
	d.previous[kind] = e.first
	d.entries = b
	d.pages++
}

// body returns the body of the directory page.
func (d *directoryWriter) body(h *header, s *Summary) []byte {
	b := h.append(nil)
	b = s.append(b)
	b = binary.AppendUvarint(b, uint64(d.pages))
	return append(append(b, d.entries...), d.tenants...)
}

// readDirectory decodes the body of a directory page that stands at offset end.
func readDirectory(body []byte, end int64) (*directory, error) {
	c := cursor.Cursor{B: body, Shortest: true}
	d := &directory{header: readHeader(&c), summary: readSummary(&c)}
	const leastEntry = 1 + 1 + 4 + 1 + 1
	n := c.Count(leastEntry)
	lastMint := int64(0)
	for i := 0; i < n && !c.Bad; i++ {
		flags := c.U8()
		kind := pageKind(flags &^ entryContinued)
		if kind == 0 || kind >= pageDirectory || (kind == pageHeader) != (i == 0) {
			c.Fail()
			break
		}
		s := &d.sections[kind]
		e := pageEntry{offset: d.end, continued: flags&entryContinued != 0}
		length := c.Uvarint()
		e.checksum = c.U32()
		delta := c.Uvarint()
		e.rows = readNumber(&c)
		if k := len(s.pages); k > 0 {
			delta += uint64(s.pages[k-1].first)
		}
		if kind.hasTimes() {
			e.mint = lastMint + c.Varint()
			e.maxt = e.mint + int64(c.Uvarint())
			lastMint = e.mint
		}
		if kind.hasKey() {
			s.keys = append(s.keys, c.String())
		}
		if c.Bad || length < pageFrameBytes || length > uint64(end-d.end) || delta > 1<<32-1 || e.maxt < e.mint ||
			e.continued && len(s.pages) == 0 {
			c.Fail()
			break
		}
		e.length, e.first = uint32(length), uint32(delta)
		d.end += int64(length)
		s.pages = append(s.pages, e)
	}
	d.pages = n
	if d.header.kind == kindCanonical && !c.Bad {
		var err error
		if d.tenants, err = readTenants(&c, int(d.summary.Tenants)); err != nil {
			return nil, err
		}
	}
	if err := c.Finish(ErrDamaged, "directory"); err != nil {
		return nil, err
	}
	if n == 0 || d.end != end {
		return nil, fmt.Errorf("%w: its %d pages end at %d, the directory begins at %d", ErrDamaged, n, d.end, end)
	}
	for k := range d.sections {
		s := &d.sections[k]
		s.pages, s.keys = slices.Clone(s.pages), slices.Clone(s.keys) // without room to grow
	}
	return d, nil
}
