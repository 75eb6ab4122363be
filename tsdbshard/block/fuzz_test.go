package block

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/cursor"
)

// refuses fails the test if an error is of no kind.
func refuses(t *testing.T, err error) {
	t.Helper()
	if errors.Is(typed(err), errUntyped) {
		t.Fatal(err)
	}
}

func FuzzFooter(f *testing.F) {
	f.Add((&footer{directoryOffset: 100, directoryLength: 50}).append(nil), int64(182))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		foot, err := readFooter(data, size)
		refuses(t, err)
		if err == nil && (foot.directoryOffset < 0 || foot.directoryOffset+int64(foot.directoryLength)+footerBytes != size) {
			t.Fatalf("%+v in a file of %d", foot, size)
		}
	})
}

func FuzzPage(f *testing.F) {
	for _, compress := range []bool{false, true} {
		page, err := appendPage(nil, pageSeries, make([]byte, 3000), compress)
		require.NoError(f, err)
		f.Add(page[:len(page)-pageTailBytes])
	}
	f.Fuzz(func(t *testing.T, framed []byte) {
		// With the right checksum, or nothing behind it would be reached.
		body, err := pageBody(binary.LittleEndian.AppendUint32(slices.Clone(framed), checksum(framed)), pageSeries)
		refuses(t, err)
		if err == nil && len(body) > maxBodyBytes {
			t.Fatalf("a body of %d bytes", len(body))
		}
	})
}

func FuzzDirectory(f *testing.F) {
	m := newModel(f, 3, modelConfig{tenants: 3, series: 60, samples: 300, start: testStart})
	delta, _ := m.delta(f)
	canonical, _ := m.canonical(f)
	for _, data := range [][]byte{delta, canonical} {
		foot, err := readFooter(data[len(data)-footerBytes:], int64(len(data)))
		require.NoError(f, err)
		body, err := pageBody(data[foot.directoryOffset:len(data)-footerBytes], pageDirectory)
		require.NoError(f, err)
		f.Add(body, foot.directoryOffset)
	}
	f.Fuzz(func(t *testing.T, body []byte, end int64) {
		dir, err := readDirectory(body, end)
		refuses(t, err)
		if err != nil || dir.tenants == nil {
			return
		}
		for e := range dir.tenants.all {
			if got, ok := dir.tenants.find(e.id); !ok || got != e {
				t.Fatalf("tenant %v is found as %+v, %v; it is %+v", e.id, got, ok, e)
			}
		}
	})
}

// FuzzPageBodies feeds one input to the parser of every kind of page, and reads
// what it takes for rows.
func FuzzPageBodies(f *testing.F) {
	m := newModel(f, 3, modelConfig{tenants: 3, series: 60, samples: 300, start: testStart})
	delta, _ := m.delta(f)
	canonical, _ := m.canonical(f)
	for _, data := range [][]byte{delta, canonical} {
		dir, err := openDirectory(fileOf(data), int64(len(data)))
		require.NoError(f, err)
		o := &file{f: fileOf(data), dir: dir}
		for kind := range dir.sections {
			if len(dir.sections[kind].pages) > 0 {
				body, err := o.read(pageKind(kind), 0)
				require.NoError(f, err)
				f.Add(body[:min(len(body), 2000)])
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzSamples(t, body)
		fuzzBlobs(t, body)
		values, err := readValuesPage(body)
		refuses(t, err)
		for i := 0; err == nil && i < len(values.ends); i++ {
			_ = values.value(i)
		}
		_, err = readShapesPage(body)
		refuses(t, err)
		var newest newestReader
		for c, first := (cursor.Cursor{B: body}), true; len(c.B) > 0 && !c.Bad; first = false {
			if _, _, err := newest.row(&c, first, 5); err != nil {
				refuses(t, err)
				break
			}
		}
	})
}

func fuzzSamples(t *testing.T, body []byte) {
	t.Helper()
	p, err := readSamplesPage(body)
	refuses(t, err)
	if err != nil {
		return
	}
	of := func(k kind) *file {
		o := &file{dir: &directory{header: header{kind: k}}}
		o.dir.sections[pageSamples].pages = []pageEntry{{first: p.first, rows: p.samplesParts.rows}}
		return o
	}
	inDelta, inCanonical := of(kindDelta).checkSamples(0, &p.samplesParts), of(kindCanonical).checkSamples(0, &p.samplesParts)
	refuses(t, inDelta)
	refuses(t, inCanonical)
	if (inDelta == nil) == (inCanonical == nil) {
		t.Fatalf("a page with %d shapes is taken in both kinds of blocks or in none: %v", len(p.shapes), inDelta)
	}
	for i, row := range p.rows {
		w, n := p.walkRow(i)
		for range n {
			w.chunk()
		}
		if w.bad {
			t.Fatalf("row %d is bad in a page that was taken for good", i)
		}
		whole := p.appendChunks(nil, i, -1<<63, 1<<63-1)
		found, err := p.appendFound(nil, row.number, -1<<63, 1<<63-1)
		refuses(t, err)
		if inDelta != nil {
			if len(whole)+len(found) > 0 || err == nil {
				t.Fatalf("row %d has chunks without shapes", i)
			}
			continue
		}
		if err != nil || len(found) != n || len(whole) != n {
			t.Fatalf("row %d has %d chunks, %d by walking, %d by its head: %v", i, len(whole), len(found), n, err)
		}
	}
}

func fuzzBlobs(t *testing.T, body []byte) {
	t.Helper()
	p, err := readBlobPage(body)
	refuses(t, err)
	if err != nil {
		return
	}
	for i := range p.rows {
		row := p.row(i)
		list, err := appendPieceNumbers(nil, row)
		refuses(t, err)
		if err == nil && (!slices.IsSorted(list) || len(list) > postingsPiece) {
			t.Fatalf("piece of %d numbers, not rising", len(list))
		}
		_, err = readExemplars(nil, row)
		refuses(t, err)
		_, err = readNames(row, 1<<32-1)
		refuses(t, err)
		c := cursor.Cursor{B: row}
		readPairs(&c, nil, 1<<32-1)
		readShapeRuns(&c, nil)
	}
}
