package promql_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/promql"
)

// vast is a store of large answers: chunk queriers with that many series of a
// label of 64 KiB each, the next of which takes a while, and metadata.
type vast struct {
	promql.Queryable
	series int
	pause  time.Duration
	help   string

	opened, closed atomic.Int64
}

func (v *vast) ChunkQuerier(context.Context, quorate.TenantID, int64, int64) (storage.ChunkQuerier, error) {
	v.opened.Add(1)
	return &vastQuerier{storage.NoopChunkedQuerier(), v}, nil
}

func (v *vast) Metadata(context.Context, quorate.TenantID, string) (map[string]metadata.Metadata, annotations.Annotations, error) {
	return map[string]metadata.Metadata{"up": {Help: v.help}}, nil, nil
}

type vastQuerier struct {
	storage.ChunkQuerier
	vast *vast
}

func (q *vastQuerier) Select(ctx context.Context, _ bool, _ *storage.SelectHints, _ ...*labels.Matcher) storage.ChunkSeriesSet {
	chunk, err := chunks.ChunkFromSamples(nil)
	return &vastSet{ctx: ctx, left: q.vast.series, pause: q.vast.pause, err: err, series: &storage.ChunkSeriesEntry{
		Lset: labels.FromStrings("large", strings.Repeat("x", 64<<10)),
		ChunkIteratorFn: func(chunks.Iterator) chunks.Iterator {
			return storage.NewListChunkSeriesIterator(chunk)
		},
	}}
}

func (q *vastQuerier) Close() error {
	q.vast.closed.Add(1)
	return nil
}

type vastSet struct {
	ctx    context.Context
	left   int
	pause  time.Duration
	err    error
	series storage.ChunkSeries
}

func (s *vastSet) Next() bool {
	if s.err != nil || s.left == 0 {
		return false
	}
	s.left--
	pause := time.NewTimer(s.pause)
	defer pause.Stop()
	select {
	case <-pause.C:
		return true
	case <-s.ctx.Done():
		s.err = s.ctx.Err()
		return false
	}
}

func (s *vastSet) At() storage.ChunkSeries         { return s.series }
func (s *vastSet) Err() error                      { return s.err }
func (*vastSet) Warnings() annotations.Annotations { return nil }

// streamedRead asks for everything of a vast store and returns an answer that
// nothing was read of yet.
func streamedRead(t *testing.T, client *http.Client, url string) *http.Response {
	t.Helper()
	body := snappy.Encode(nil, marshal(t, &prompb.ReadRequest{
		Queries:               []*prompb.Query{readQuery(t, anything())},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS},
	}))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/v1/read", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("answer is %s", resp.Status)
	}
	return resp
}

func protocolOf(http2 bool) (name string, protocols *http.Protocols) {
	protocols = new(http.Protocols)
	if http2 {
		protocols.SetUnencryptedHTTP2(true)
		return "HTTP/2", protocols
	}
	protocols.SetHTTP1(true)
	return "HTTP/1", protocols
}

func TestAClientThatStopsReadingIsCutOff(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		name, protocols := protocolOf(http2)
		t.Run(name, func(t *testing.T) {
			v := &vast{series: 1 << 40}
			s, handler := newServer(t, func(c *promql.Config) {
				v.Queryable, c.Queryable = c.Queryable, v
				c.WriteStall = 50 * time.Millisecond
				c.Read.Concurrency = 1
			})
			s.Server = httptest.NewUnstartedServer(handler)
			s.Config.Protocols = protocols
			s.Start()
			t.Cleanup(s.Server.Close)
			client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
			t.Cleanup(client.CloseIdleConnections)

			for n := range int64(2) { // the second needs the turn of the first
				resp := streamedRead(t, client, s.URL)
				testwait.For(t, "the querier to be closed", func() bool { return v.closed.Load() == n+1 })
				testwait.For(t, "the handler to return", func() bool { return gauge(t, s, "quorate_query_requests_in_flight") == 0 })
				if _, err := io.Copy(io.Discard, resp.Body); err == nil {
					t.Error("what was cut off reads as if it were whole")
				}
			}
			if v.opened.Load() != 2 {
				t.Errorf("%d queriers were opened, want 2", v.opened.Load())
			}
		})
	}
}

func TestAnAnswerMayTakeAnyTimeWhileItsClientReads(t *testing.T) {
	const stall = promql.DefaultWriteStall
	for _, c := range []struct {
		name    string
		ask     func(t *testing.T, client *http.Client, v *vast)
		atLeast time.Duration
	}{
		{"a query that computes between its writes", readAllSeries, 15 * stall},
		{"a client that reads slowly what is written at once", readSlowly, 4 * stall},
	} {
		for _, http2 := range []bool{false, true} {
			name, protocols := protocolOf(http2)
			t.Run(c.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := &vast{series: 5, pause: 3 * stall, help: strings.Repeat("help", 1<<18)}
					_, handler := newServer(t, func(c *promql.Config) { v.Queryable, c.Queryable = c.Queryable, v })
					client := servePipes(t, handler, protocols)
					for range 2 { // again by a connection that idled
						started := time.Now()
						c.ask(t, client, v)
						if took := time.Since(started); took < c.atLeast {
							t.Errorf("took %v, want at least %v", took, c.atLeast)
						}
						wait(10 * stall)
					}
				})
			})
		}
	}
}

// TestASmallAnswerThatNobodyReadsIsDropped is about what the server sends after
// the handler.
func TestASmallAnswerThatNobodyReadsIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, handler := newServer(t)
		_, protocols := protocolOf(false)
		conn, err := servePipes(t, handler, protocols).Transport.(*http.Transport).DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /api/v1/status/buildinfo HTTP/1.1\r\nHost: pipe\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		wait(2 * promql.DefaultWriteStall)
		if answer, err := io.ReadAll(conn); err != nil || len(answer) > 0 {
			t.Errorf("%d bytes, %v; want a closed connection", len(answer), err)
		}
	})
}

func readAllSeries(t *testing.T, client *http.Client, v *vast) {
	t.Helper()
	stream := remote.NewChunkedReader(streamedRead(t, client, "http://pipe").Body, 1<<20, nil)
	for n := range v.series {
		if err := stream.NextProto(new(prompb.ChunkedReadResponse)); err != nil {
			t.Fatalf("series %d: %v", n, err)
		}
	}
	if _, err := stream.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the answer ends with %v", err)
	}
}

func readSlowly(t *testing.T, client *http.Client, v *vast) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://pipe/api/v1/metadata", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, slowReader{resp.Body}); err != nil || n < int64(len(v.help)) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// wait lets virtual time pass.
func wait(d time.Duration) { <-time.NewTimer(d).C }

// slowReader reads at most 4 KiB a second.
type slowReader struct{ r io.Reader }

func (s slowReader) Read(p []byte) (int, error) {
	wait(time.Second)
	return s.r.Read(p[:min(len(p), 4<<10)])
}

// servePipes serves over pipes, which hold nothing and whose deadlines are in
// virtual time, and returns a client of it.
func servePipes(t *testing.T, handler http.Handler, protocols *http.Protocols) *http.Client {
	t.Helper()
	l := pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler, Protocols: protocols}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{Protocols: protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
		theirs, ours := net.Pipe()
		l.conns <- theirs
		return ours, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &http.Client{Transport: transport}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error {
	close(l.closed)
	return nil
}

func (pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
