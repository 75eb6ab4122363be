package promql

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
)

// nobodys is the querier of a tenant that was not found: it has nothing, and
// warns where that may be because the tenant is not known here.
func nobodys(tenant Tenant) storage.Querier {
	if len(tenant.Warnings) == 0 {
		return storage.NoopQuerier()
	}
	return nobodyQuerier{storage.NoopQuerier(), tenant.Warnings}
}

// nobodysChunks is nobodys for chunks.
func nobodysChunks(tenant Tenant) storage.ChunkQuerier {
	if len(tenant.Warnings) == 0 {
		return storage.NoopChunkedQuerier()
	}
	return nobodyChunks{storage.NoopChunkedQuerier(), tenant.Warnings}
}

type nobodyQuerier struct {
	storage.Querier
	warnings annotations.Annotations
}

func (q nobodyQuerier) Select(context.Context, bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
	return nobodySeries{storage.EmptySeriesSet(), q.warnings}
}

func (q nobodyQuerier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, q.warnings, nil
}

func (q nobodyQuerier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, q.warnings, nil
}

type nobodySeries struct {
	storage.SeriesSet
	warnings annotations.Annotations
}

func (s nobodySeries) Warnings() annotations.Annotations { return s.warnings }

type nobodyChunks struct {
	storage.ChunkQuerier
	warnings annotations.Annotations
}

func (q nobodyChunks) Select(context.Context, bool, *storage.SelectHints, ...*labels.Matcher) storage.ChunkSeriesSet {
	return nobodyChunkSeries{storage.EmptyChunkSeriesSet(), q.warnings}
}

type nobodyChunkSeries struct {
	storage.ChunkSeriesSet
	warnings annotations.Annotations
}

func (s nobodyChunkSeries) Warnings() annotations.Annotations { return s.warnings }
