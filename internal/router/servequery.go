package router

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// handleSelect sends the series that match, sorted by labels.
func (r *Router) handleSelect(ctx context.Context, from quorate.NodeID, b []byte, send func([]byte) error) (err error) {
	req, err := decodeSelectRequest(b)
	if err != nil {
		return err
	}
	q, done, err := r.openServed(req.Window, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	set := q.Select(ctx, true, req.Hints, req.Matchers...)
	w := seriesWriter{frames: frameWriter{send: send}}
	for set.Next() {
		if err := w.write(set.At()); err != nil {
			return err
		}
		if req.Hints != nil && req.Hints.Limit > 0 && w.frames.count == uint64(req.Hints.Limit) {
			break
		}
	}
	if err := set.Err(); err != nil {
		return err
	}
	return w.frames.end(set.Warnings())
}

// openServed opens a querier over a view that another node has pinned here.
func (r *Router) openServed(w window, from quorate.NodeID) (q storage.Querier, done func() error, err error) {
	layer, free, err := r.served.use(w.View, from)
	if err != nil {
		return nil, nil, err
	}
	q, err = layer.querier(w.Tenant, w.Mint, w.Maxt, w.Oldest)
	if err != nil {
		free()
		return nil, nil, err
	}
	return q, func() error {
		defer free()
		return q.Close()
	}, nil
}

// handleLabels sends names or values of labels, sorted.
func (r *Router) handleLabels(ctx context.Context, from quorate.NodeID, b []byte, send func([]byte) error) (err error) {
	req, err := decodeLabelsRequest(b)
	if err != nil {
		return err
	}
	q, done, err := r.openServed(req.Window, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	hints := &storage.LabelHints{Limit: req.Limit}
	read := func() ([]string, map[string]error, error) {
		if req.Name == "" {
			list, warnings, err := q.LabelNames(ctx, hints, req.Matchers...)
			return list, warnings, err
		}
		list, warnings, err := q.LabelValues(ctx, req.Name, hints, req.Matchers...)
		return list, warnings, err
	}
	list, warnings, err := read()
	if err != nil {
		return err
	}
	w := frameWriter{send: send}
	for _, s := range list {
		if err := w.element(cursor.AppendBytes(w.begin(), s)); err != nil {
			return err
		}
	}
	return w.end(warnings)
}

// handleExemplars sends exemplars, series by series.
func (r *Router) handleExemplars(ctx context.Context, from quorate.NodeID, b []byte, send func([]byte) error) error {
	req, err := decodeExemplarsRequest(b)
	if err != nil {
		return err
	}
	layer, free, err := r.served.use(req.Window.View, from)
	if err != nil {
		return err
	}
	defer free()
	found, err := layer.exemplars(ctx, req.Window.Tenant, req.Window.Mint, req.Window.Maxt, req.Matchers)
	if err != nil {
		return err
	}
	w := frameWriter{send: send}
	for i := range found {
		if err := w.element(appendExemplars(w.begin(), &found[i])); err != nil {
			return err
		}
	}
	return w.end(nil)
}

// handleMetadata answers with the metadata of families.
func (r *Router) handleMetadata(ctx context.Context, from quorate.NodeID, b []byte) ([]byte, error) {
	req, err := decodeMetadataRequest(b)
	if err != nil {
		return nil, err
	}
	layer, free, err := r.served.use(req.Window.View, from)
	if err != nil {
		return nil, err
	}
	defer free()
	found, err := layer.metadata(ctx, req.Window.Tenant, req.Family)
	if err != nil {
		return nil, err
	}
	return encodeMetadata(found), nil
}

// handleStats answers with statistics.
func (r *Router) handleStats(ctx context.Context, from quorate.NodeID, b []byte) ([]byte, error) {
	req, err := decodeStatsRequest(b)
	if err != nil {
		return nil, err
	}
	layer, free, err := r.served.use(req.Window.View, from)
	if err != nil {
		return nil, err
	}
	defer free()
	stats, err := layer.stats(ctx, req.Window.Tenant, req.Label, req.Limit)
	if err != nil {
		return nil, err
	}
	return encodeStats(stats), nil
}
