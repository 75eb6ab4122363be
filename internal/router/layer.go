package router

import (
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/tsdbshard"
)

// layer is what a query has pinned of one set, here or on another node. Times
// are in ms; what is before oldest is hidden by retention.
type layer interface {
	// querier reads a tenant's samples of the closed range [mint, maxt].
	querier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.Querier, error)
	// chunkQuerier is querier for chunks of Prometheus' encodings.
	chunkQuerier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.ChunkQuerier, error)
	// exemplars returns those of [start, end] of the series that match any of
	// the matcher sets.
	exemplars(ctx context.Context, tenant quorate.TenantID, start, end int64, matchers [][]*labels.Matcher) ([]exemplar.QueryResult, error)
	// metadata returns what is known of one metric family, or of all when
	// family is empty.
	metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, error)
	// stats is tsdbshard.TenantReader's.
	stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, error)
	// anySeries tells whether there is a series that matches.
	anySeries(ctx context.Context, tenant quorate.TenantID, matchers []*labels.Matcher) (bool, error)
	// release lets go of it. It may be called again.
	release()
}

// localLayer is a view of a replica on this node.
type localLayer struct{ view View }

func (l localLayer) querier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.Querier, error) {
	return newMaskedQuerier(l.view.TenantIn(tenant, mint, maxt), mint, maxt, oldest)
}

// chunkQuerier gives chunks as they are stored where it can. Those of samples
// that are not stored in chunks of their own, or of which some are deleted, are
// encoded from samples.
func (l localLayer) chunkQuerier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.ChunkQuerier, error) {
	q, err := newMaskedQuerier(l.view.TenantIn(tenant, mint, maxt), mint, maxt, oldest)
	if err != nil {
		return nil, err
	}
	if q.deleted != nil {
		return encodedQuerier{q}, nil
	}
	if err := q.Close(); err != nil {
		return nil, err
	}
	chunks, err := tsdb.NewBlockChunkQuerier(q.reader, q.mint, maxt)
	if err != nil {
		return nil, err
	}
	return &maskedChunkQuerier{ChunkQuerier: chunks, oldest: oldest}, nil
}

func (l localLayer) exemplars(_ context.Context, tenant quorate.TenantID, start, end int64, matchers [][]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return l.view.Tenant(tenant).ExemplarQuerier().Select(start, end, matchers...)
}

func (l localLayer) metadata(_ context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, error) {
	return l.view.Tenant(tenant).Metadata(family)
}

func (l localLayer) stats(_ context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, error) {
	return l.view.Tenant(tenant).Stats(label, limit)
}

func (l localLayer) anySeries(ctx context.Context, tenant quorate.TenantID, matchers []*labels.Matcher) (bool, error) {
	return anySeries(ctx, l.view.Tenant(tenant), matchers)
}

func (l localLayer) release() { l.view.Close() }

// anySeries tells whether a reader has a series that matches.
func anySeries(ctx context.Context, reader tsdbshard.TenantReader, matchers []*labels.Matcher) (some bool, err error) {
	index, err := reader.Index()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	// It may reorder the matchers that it is given.
	matching, err := tsdb.PostingsForMatchers(ctx, index, slices.Clone(matchers)...)
	if err != nil {
		return false, err
	}
	return matching.Next(), matching.Err()
}
