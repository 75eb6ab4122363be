package remote

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// recorder is an Appender that stores all rows whose labels are good, as the
// router does with series it has not seen, and then returns err if set.
type recorder struct {
	mu       sync.Mutex
	tenants  []quorate.TenantID
	rows     []row
	metadata []wire.Metadata

	err     error
	refused int           // added to the result
	hold    chan struct{} // when set, Append waits for it or its context
	entered chan struct{} // when set, gets one value for each Append
}

func (a *recorder) Append(ctx context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error) {
	if a.entered != nil {
		a.entered <- struct{}{}
	}
	if a.hold != nil {
		select {
		case <-a.hold:
		case <-ctx.Done():
			return wire.WriteResult{}, ctx.Err()
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tenants = append(a.tenants, tenant)
	result, err := wire.WriteResult{Refused: a.refused}, a.err
	var start wire.RequestSeries
	for i, s := range req.Series {
		labels, labelErr := req.Labels.CanonicalLabels(nil, i)
		rows := seriesRows(req, start, s, string(labels))
		start = s
		if labelErr != nil {
			result.Refused += len(rows)
			if err == nil {
				err = labelErr
			}
			continue
		}
		for _, r := range rows {
			switch r.kind {
			case "float":
				result.Floats++
			case "histogram":
				result.Histograms++
			case "exemplar":
				result.Exemplars++
			}
		}
		a.rows = append(a.rows, rows...)
	}
	a.metadata = append(a.metadata, req.Metadata...)
	return result, err
}

// names are the tenants of a test, numbered as they come.
type names struct {
	mu    sync.Mutex
	known map[string]quorate.TenantID
	err   error
}

func (n *names) EnsureTenant(_ context.Context, name string) (quorate.TenantID, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return 0, n.err
	}
	if n.known == nil {
		n.known = map[string]quorate.TenantID{}
	}
	if _, found := n.known[name]; !found {
		n.known[name] = quorate.TenantID(len(n.known) + 1)
	}
	return n.known[name], nil
}

func newTestHandler(t testing.TB, config Config, a Appender) *Handler {
	t.Helper()
	h, err := NewHandler(config, a, &names{})
	require.NoError(t, err)
	return h
}

const (
	typeV1 = protobufType
	typeV2 = protobufType + ";proto=io.prometheus.write.v2.Request"
)

// post sends a body as it is, with Content-Encoding snappy.
func post(h http.Handler, contentType string, packed []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(packed))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Content-Encoding", "snappy")
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

type marshaler interface{ Marshal() ([]byte, error) }

func pack(t testing.TB, m marshaler) []byte {
	t.Helper()
	body, err := m.Marshal()
	require.NoError(t, err)
	return snappy.Encode(nil, body)
}

// seriesV1 makes a series of an RW 1.0 request of names and values in turn.
func v1Series(samples []prompb.Sample, labels ...string) prompb.TimeSeries {
	ts := prompb.TimeSeries{Samples: samples}
	for i := 0; i < len(labels); i += 2 {
		ts.Labels = append(ts.Labels, prompb.Label{Name: labels[i], Value: labels[i+1]})
	}
	return ts
}

func v1Request(series ...prompb.TimeSeries) *prompb.WriteRequest {
	return &prompb.WriteRequest{Timeseries: series}
}

var oneSample = []prompb.Sample{{Timestamp: exampleTime, Value: 1}}

// v2Builder makes RW 2.0 requests.
type v2Builder struct {
	symbols writev2.SymbolsTable
	req     writev2.Request
}

func newV2() *v2Builder { return &v2Builder{symbols: writev2.NewSymbolTable()} }

func (b *v2Builder) refs(labels ...string) []uint32 {
	var refs []uint32
	for _, l := range labels {
		refs = append(refs, b.symbols.Symbolize(l))
	}
	return refs
}

// add adds a series with one sample; change may change it.
func (b *v2Builder) add(change func(*writev2.TimeSeries), labels ...string) *v2Builder {
	ts := writev2.TimeSeries{LabelsRefs: b.refs(labels...), Samples: []writev2.Sample{{Timestamp: exampleTime, Value: 1}}}
	if change != nil {
		change(&ts)
	}
	b.req.Timeseries = append(b.req.Timeseries, ts)
	return b
}

func (b *v2Builder) request() *writev2.Request {
	b.req.Symbols = b.symbols.Symbols()
	return &b.req
}

// canonical encodes names and values in turn.
func canonical(labels ...string) string {
	var dst []byte
	for i := 0; i < len(labels); i += 2 {
		dst = wire.AppendLabel(dst, labels[i], labels[i+1])
	}
	return string(dst)
}

// storedSeries lists the label sets that rows were stored for.
func (a *recorder) storedSeries() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var labels []string
	for _, r := range a.rows {
		labels = append(labels, r.labels)
	}
	return labels
}

func written(w *httptest.ResponseRecorder) string {
	return fmt.Sprintf("%s/%s/%s", w.Header().Get(headerSamples), w.Header().Get(headerHistograms), w.Header().Get(headerExemplars))
}
