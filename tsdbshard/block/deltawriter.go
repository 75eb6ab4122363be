package block

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// definitionsTarget is the size at which a page of definitions is closed,
// before compression. They are only ever read one after the other, and larger
// pages compress better.
const definitionsTarget = 256 << 10

// deltaStage is which section of a delta block is being written.
type deltaStage uint8

const (
	stageDefinitions deltaStage = iota
	stageRows
	stageExemplars
	stageMetadata
	stageFinished
)

func (s deltaStage) String() string {
	return [...]string{"definitions", "rows", "exemplars", "metadata", "nothing"}[s]
}

// DeltaWriter writes a delta block in one pass: definitions, rows, exemplars,
// metadata, Finish. Nothing that is passed to it is kept. It holds one page of
// each kind and the directory, some 25 bytes for each page written, plus a few
// for each tenant. After an error all calls return it.
type DeltaWriter struct {
	f         *fileWriter
	header    header
	summary   Summary
	stage     deltaStage
	tenants   map[quorate.TenantID]struct{}
	defined   rowsWriter
	newest    newestWriter
	samples   samplesWriter
	exemplars blobWriter
	row       []byte // scratch
	metadata  metadataWriter
	last      uint32 // ref of the last row or exemplars
	any       bool   // there is a last one in this stage
}

// NewDeltaWriter begins a delta block on w. Publishing the file is the
// caller's.
func NewDeltaWriter(w io.Writer, h DeltaHeader) *DeltaWriter {
	d := &DeltaWriter{header: header{kind: kindDelta, delta: h}, summary: emptySummary(), tenants: make(map[quorate.TenantID]struct{})}
	d.f = newFileWriter(w, &d.header)
	d.defined = rowsWriter{f: d.f, kind: pageDefinitions, target: definitionsTarget}
	d.newest.rows = rowsWriter{f: d.f, kind: pageNewest, target: newestTarget}
	d.samples = samplesWriter{f: d.f, own: true}
	d.exemplars = newBlobWriter(d.f, pageExemplars, exemplarsTarget)
	d.metadata.rows = rowsWriter{f: d.f, kind: pageMetadata, target: metadataTarget}
	return d
}

// enter moves on to a stage and tells whether it may still be written.
func (w *DeltaWriter) enter(stage deltaStage) error {
	if stage < w.stage {
		return w.f.fail(fmt.Errorf("%v after %v: %w", stage, w.stage, errOrder))
	}
	for ; w.stage < stage; w.stage++ {
		w.any = false
		switch w.stage {
		case stageDefinitions:
			w.defined.flush()
		case stageRows:
			w.newest.rows.flush()
			w.samples.flush()
		case stageExemplars:
			w.exemplars.flush()
		case stageMetadata:
			w.metadata.rows.flush()
		case stageFinished:
		}
	}
	return w.f.err
}

// Define gives the next ref, from the header's FirstRef on, to a series.
func (w *DeltaWriter) Define(tenant quorate.TenantID, canonical []byte) error {
	if err := w.enter(stageDefinitions); err != nil {
		return err
	}
	w.defined.begin(w.header.delta.FirstRef + w.summary.Series)
	w.defined.body = cursor.AppendBytes(binary.AppendUvarint(w.defined.body, uint64(tenant)), canonical)
	w.summary.Series++
	w.tenants[tenant] = struct{}{}
	return w.f.err
}

// ref checks that a row comes after the last one and is of a series that this
// block or an older one defines.
func (w *DeltaWriter) ref(ref uint32) error {
	if w.any && ref <= w.last || uint64(ref) >= uint64(w.header.delta.FirstRef)+uint64(w.summary.Series) {
		return w.f.fail(fmt.Errorf("series %d after %d of %d: %w", ref, w.last, w.header.delta.FirstRef+w.summary.Series, errOrder))
	}
	w.last, w.any = ref, true
	return nil
}

// Row adds what the block has of a series' samples: its newest sample, chunks
// that follow each other in time without overlap, or both; by rising ref.
func (w *DeltaWriter) Row(ref uint32, newest Newest, chunks []chunk.Chunk) error {
	if err := w.enter(stageRows); err != nil {
		return err
	}
	if err := w.ref(ref); err != nil {
		return err
	}
	if newest.Kind > newestHistogram || newest.Kind == 0 && len(chunks) == 0 {
		return w.f.fail(fmt.Errorf("series %d: a row of %d chunks and a newest sample of kind %d", ref, len(chunks), newest.Kind))
	}
	if err := checkChunks(chunks); err != nil {
		return w.f.fail(fmt.Errorf("series %d: %w", ref, err))
	}
	if newest.Kind != 0 {
		w.newest.add(ref, newest)
	}
	if len(chunks) > 0 {
		w.samples.add(ref, chunks)
	}
	w.summary.Rows++
	w.summary.addChunks(chunks)
	return w.f.err
}

// checkChunks checks that chunks follow each other in time.
func checkChunks(chunks []chunk.Chunk) error {
	for i := range chunks {
		if err := chunks[i].Check(); err != nil {
			return fmt.Errorf("chunk %d: %w", i, err)
		}
		if i > 0 && chunks[i].MinTime <= chunks[i-1].MaxTime {
			return fmt.Errorf("chunk %d from %d after one to %d: %w", i, chunks[i].MinTime, chunks[i-1].MaxTime, errOrder)
		}
	}
	return nil
}

// Exemplars adds a series' exemplars, in their order (Exemplar.Compare) and
// none twice, by rising ref.
func (w *DeltaWriter) Exemplars(ref uint32, list []Exemplar) error {
	if err := w.enter(stageExemplars); err != nil || len(list) == 0 {
		return err
	}
	if err := w.ref(ref); err != nil {
		return err
	}
	if err := checkExemplars(list); err != nil {
		return w.f.fail(fmt.Errorf("series %d: %w", ref, err))
	}
	w.row = appendExemplarsRow(w.row[:0], list)
	w.exemplars.add(ref, w.row)
	w.summary.Exemplars += uint64(len(list))
	return w.f.err
}

// Metadata adds what is known of one metric family of a tenant, by rising
// tenant and family.
func (w *DeltaWriter) Metadata(tenant quorate.TenantID, m wire.Metadata) error {
	if err := w.enter(stageMetadata); err != nil {
		return err
	}
	if err := w.metadata.add(tenant, &m); err != nil {
		return w.f.fail(err)
	}
	w.tenants[tenant] = struct{}{}
	return w.f.err
}

// Finish writes what is left. The block is whole when it returns nil, though
// not durable yet.
func (w *DeltaWriter) Finish() (Summary, error) {
	if w.stage == stageFinished {
		return Summary{}, w.f.fail(fmt.Errorf("finished twice: %w", errOrder))
	}
	if err := w.enter(stageFinished); err != nil {
		return Summary{}, err
	}
	w.summary.Tenants = uint32(len(w.tenants))
	if err := w.f.finish(&w.header, &w.summary); err != nil {
		return Summary{}, err
	}
	return w.summary, nil
}
