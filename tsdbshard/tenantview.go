package tsdbshard

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// TenantReader reads one tenant's series, from a shard that is open or from a
// sealed file. It satisfies tsdb.BlockReader, so tsdb.NewBlockQuerier and
// tsdb.NewBlockChunkQuerier read it. It is valid until the view that it came
// from is closed. What cannot be read of a file is an error, never left out.
type TenantReader interface {
	tsdb.BlockReader
	// ExemplarQuerier returns a reader of the tenant's exemplars.
	ExemplarQuerier() storage.ExemplarQuerier
	// Metadata returns what is known of one metric family, or of all when
	// family is empty.
	Metadata(family string) (map[string]metadata.Metadata, error)
	// Stats returns what Prometheus' status/tsdb shows: the number of series,
	// the range of their timestamps (0 and 0 when there are none), and for each
	// of its four lists the limit largest entries; the first list is of the
	// values of the given label.
	Stats(label string, limit int) (*tsdb.Stats, error)
	// NumSeries returns the number of the tenant's series.
	NumSeries() uint64
}

// TenantView is one tenant's series in a View. It satisfies tsdb.BlockReader,
// so tsdb.NewBlockQuerier and tsdb.NewBlockChunkQuerier read it. It is valid
// until the View is closed.
type TenantView struct {
	view   *View
	id     quorate.TenantID
	tenant *tenant // nil if the tenant never wrote here
	info   tenantInfo
	// mint and maxt are the time that is wanted; see View.TenantIn.
	mint, maxt int64
}

var _ TenantReader = (*TenantView)(nil)

// Index returns a reader of the tenant's series.
func (tv *TenantView) Index() (tsdb.IndexReader, error) { return &indexReader{tv: tv}, nil }

// Chunks returns a reader of the chunks that readers of Index name. It gives
// iterables, not chunks: chunk queriers then encode what they hand out in the
// encodings that every Prometheus reads, whatever is used in memory.
func (tv *TenantView) Chunks() (tsdb.ChunkReader, error) { return chunkReader{}, nil }

// Tombstones returns that nothing is deleted.
func (tv *TenantView) Tombstones() (tombstones.Reader, error) {
	return tombstones.NewMemTombstones(), nil
}

// Meta returns the time range of the tenant's samples, end exclusive as in
// blocks, and the number of its series. The ULID is zero.
func (tv *TenantView) Meta() tsdb.BlockMeta {
	m := tsdb.BlockMeta{Version: 1, Stats: tsdb.BlockStats{NumSeries: tv.info.series}}
	if tv.info.mint <= tv.info.maxt {
		m.MinTime, m.MaxTime = tv.info.mint, tv.info.maxt+1
	}
	return m
}

// Size returns 0: a tenant has no files of its own.
func (tv *TenantView) Size() int64 { return 0 }

// NumSeries returns the number of the tenant's series, those without samples
// included.
func (tv *TenantView) NumSeries() uint64 { return tv.info.series }

// Metadata returns what is known of one metric family of the tenant, or of all
// when family is empty.
func (tv *TenantView) Metadata(family string) (map[string]metadata.Metadata, error) {
	found := make(map[string]metadata.Metadata)
	if family != "" {
		if m, ok := tv.info.metadata[family]; ok {
			found[family] = metadataOf(m)
		}
		return found, nil
	}
	for name, m := range tv.info.metadata {
		found[name] = metadataOf(m)
	}
	return found, nil
}

func metadataOf(m wire.Metadata) metadata.Metadata {
	return metadata.Metadata{Type: m.MetricType(), Unit: m.Unit, Help: m.Help}
}

// errForeignChunk is returned for a chunks.Meta that did not come from the
// same view's index reader.
var errForeignChunk = errors.New("the chunk is not of this view")

// chunkReader satisfies tsdb.ChunkReader for the metas that indexReader.Series
// makes, which carry their samples in place of a chunk.
type chunkReader struct{}

func (chunkReader) ChunkOrIterable(meta chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	s, ok := meta.Chunk.(*span)
	if !ok {
		return nil, nil, fmt.Errorf("chunk [%d, %d]: %w", meta.MinTime, meta.MaxTime, errForeignChunk)
	}
	return nil, s, nil
}

func (chunkReader) Close() error { return nil }
