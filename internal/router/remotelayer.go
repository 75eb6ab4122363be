package router

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// remoteLayer is a view on another node. It lives as long as the stream that
// pinned it, which whoever pinned it ends.
type remoteLayer struct {
	router *Router
	node   quorate.NodeID
	set    quorate.ReplicaSetID
	view   uint64
	// left is how many bytes the query may still take in.
	left *atomic.Int64
}

var _ layer = (*remoteLayer)(nil)

func (l *remoteLayer) querier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.Querier, error) {
	return &remoteQuerier{layer: l, window: window{View: l.view, Tenant: tenant, Mint: mint, Maxt: maxt, Oldest: oldest}}, nil
}

// chunkQuerier encodes what comes anew, in Prometheus' encodings.
func (l *remoteLayer) chunkQuerier(tenant quorate.TenantID, mint, maxt, oldest int64) (storage.ChunkQuerier, error) {
	q, err := l.querier(tenant, mint, maxt, oldest)
	return encodedQuerier{q}, err
}

func (l *remoteLayer) exemplars(ctx context.Context, tenant quorate.TenantID, start, end int64, matchers [][]*labels.Matcher) ([]exemplar.QueryResult, error) {
	w := allTime(l.view, tenant)
	w.Mint, w.Maxt = start, end
	var all []exemplar.QueryResult
	_, err := l.read(ctx, methodExemplars, exemplarsRequest{w, matchers}.encode(), func(c *cursor.Cursor) {
		all = append(all, readExemplars(c))
	})
	return all, err
}

func (l *remoteLayer) metadata(ctx context.Context, tenant quorate.TenantID, family string) (map[string]metadata.Metadata, error) {
	b, err := l.call(ctx, methodMetadata, metadataRequest{allTime(l.view, tenant), family}.encode())
	if err != nil {
		return nil, err
	}
	return decodeMetadata(b)
}

func (l *remoteLayer) stats(ctx context.Context, tenant quorate.TenantID, label string, limit int) (*tsdb.Stats, error) {
	b, err := l.call(ctx, methodStats, statsRequest{allTime(l.view, tenant), label, limit}.encode())
	if err != nil {
		return nil, err
	}
	return decodeStats(b)
}

// anySeries asks for one series without samples. One of which all are deleted
// does not count.
func (l *remoteLayer) anySeries(ctx context.Context, tenant quorate.TenantID, matchers []*labels.Matcher) (bool, error) {
	w := allTime(l.view, tenant)
	q := &remoteQuerier{layer: l, window: w}
	set := q.Select(ctx, true, &storage.SelectHints{Start: w.Mint, End: w.Maxt, Limit: 1, Func: "series"}, matchers...)
	some := set.Next()
	if err := set.Err(); err != nil {
		return false, err
	}
	return some, q.Close()
}

func (l *remoteLayer) release() {}

// stream begins a stream of frames. What is wrong with the other node comes to
// light when the first one is read.
func (l *remoteLayer) stream(ctx context.Context, method string, req []byte) (*frameReader, error) {
	recv, err := l.router.peers.Stream(ctx, l.node, method, req)
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	return &frameReader{
		ctx: ctx, from: l.node, take: l.take,
		recv: func() ([]byte, error) {
			b, err := recv()
			return b, l.failed(ctx, err)
		},
	}, nil
}

// take counts what comes against what the query may take in.
func (l *remoteLayer) take(bytes int) error {
	if l.left.Add(-int64(bytes)) >= 0 {
		return nil
	}
	return quorate.Errorf(quorate.TooLarge, "the query needs more than %d bytes of samples from other nodes: select fewer series or less time", l.router.remoteBytes)
}

// failed names the set in an error of the other node.
func (l *remoteLayer) failed(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("read set %v: %w", l.set, err)
}

// call asks the other node for what fits one answer.
func (l *remoteLayer) call(ctx context.Context, method string, req []byte) ([]byte, error) {
	b, err := l.router.peers.Call(ctx, l.node, method, req)
	if err == nil {
		err = l.take(len(b))
	}
	return b, l.failed(ctx, err)
}

// read reads a stream to its end, element by element.
func (l *remoteLayer) read(ctx context.Context, method string, req []byte, element func(c *cursor.Cursor)) (annotations.Annotations, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	frames, err := l.stream(ctx, method, req)
	if err != nil {
		return nil, err
	}
	for {
		elements, err := frames.next()
		if err != nil || elements == nil {
			return frames.warnings, err
		}
		c := &cursor.Cursor{B: elements, Shortest: true}
		for len(c.B) > 0 {
			element(c)
			frames.count++
		}
		if c.Bad {
			return nil, quorate.Errorf(quorate.Internal, "node %s: %w: answer to %s", l.node.Name, errMessage, method)
		}
	}
}

// remoteQuerier reads one view on another node. Each Select is a stream of its
// own, which the other node fills ahead of the reader only as far as the
// transport's flow control lets it.
type remoteQuerier struct {
	layer  *remoteLayer
	window window

	mu      sync.Mutex
	cancels []context.CancelFunc
	closed  bool
}

var _ storage.Querier = (*remoteQuerier)(nil)

// Select returns the series that match, sorted by labels.
func (q *remoteQuerier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	ctx, cancel := context.WithCancel(ctx)
	q.mu.Lock()
	q.cancels = append(q.cancels, cancel)
	if q.closed {
		cancel()
	}
	q.mu.Unlock()
	frames, err := q.layer.stream(ctx, methodSelect, selectRequest{q.window, hints, matchers}.encode())
	if err != nil {
		cancel()
		return storage.ErrSeriesSet(err)
	}
	return &remoteSeriesSet{frames: frames, cancel: cancel, builder: labels.NewScratchBuilder(0)}
}

// LabelValues returns the values of a label over the series that match.
func (q *remoteQuerier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if name == "" {
		return nil, nil, nil // no series has such a label; on the wire it would ask for the names
	}
	return q.labels(ctx, name, hints, matchers)
}

// LabelNames returns the label names of the series that match.
func (q *remoteQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, matchers ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return q.labels(ctx, "", hints, matchers)
}

func (q *remoteQuerier) labels(ctx context.Context, name string, hints *storage.LabelHints, matchers []*labels.Matcher) (list []string, warnings annotations.Annotations, err error) {
	req := labelsRequest{Window: q.window, Name: name, Matchers: matchers}
	if hints != nil {
		req.Limit = hints.Limit
	}
	warnings, err = q.layer.read(ctx, methodLabels, req.encode(), func(c *cursor.Cursor) { list = append(list, c.String()) })
	if err != nil {
		return nil, nil, err
	}
	return list, warnings, nil
}

// Close ends the streams that are not read to their end.
func (q *remoteQuerier) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, cancel := range q.cancels {
		cancel()
	}
	q.cancels = nil
	return nil
}
