package interchange

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	readContentType   = "application/x-protobuf"
	headerReadVersion = "X-Prometheus-Remote-Read-Version"
	remoteReadNumber  = "0.1.0"
	streamedType      = "application/x-streamed-protobuf"

	// maxFrameBytes bounds one frame of a stream. Servers cut them at about 1
	// MiB, but never within a chunk.
	maxFrameBytes = 256 << 20
	// stalledAfter is how long a stream may bring nothing.
	stalledAfter = 5 * time.Minute
)

// streamSeries reads the series that match in the closed range [mint, maxt], in
// the order of labels, each with its chunks in order of time and without
// overlap. Chunks may reach out of the range.
func streamSeries(ctx context.Context, e *Endpoint, client *http.Client, mint, maxt int64, matchers []*labels.Matcher,
	each func(lset labels.Labels, chks []chunks.Meta) error,
) error {
	query, err := remote.ToQuery(mint, maxt, matchers, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	message, err := (&prompb.ReadRequest{
		Queries:               []*prompb.Query{query},
		AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{prompb.ReadRequest_STREAMED_XOR_CHUNKS},
	}).Marshal()
	if err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	req, err := e.newRequest(ctx, readPath, s2.EncodeSnappy(nil, message))
	if err != nil {
		return fmt.Errorf("%w: %w", errPermanent, err)
	}
	req.Header.Set("Content-Type", readContentType)
	req.Header.Set(headerReadVersion, remoteReadNumber)
	stalled := time.AfterFunc(stalledAfter, func() { stop(fmt.Errorf("the server has sent nothing for %s", stalledAfter)) })
	defer stalled.Stop()
	resp, err := client.Do(req)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return statusError(resp, time.Now())
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, streamedType) {
		return fmt.Errorf("%w: the server answers remote read with %q, not with a stream of chunks", errPermanent, kind)
	}
	body := bufio.NewReaderSize(resp.Body, 256<<10) // which the ChunkedReader takes for its own
	s := &seriesStream{
		body: body, frames: remote.NewChunkedReader(body, maxFrameBytes, nil), each: each,
		alive: func() { stalled.Reset(stalledAfter) },
	}
	return causeOf(ctx, s.run())
}

// causeOf is err, or why the context ended if that is what it is of.
func causeOf(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// seriesStream puts the frames of a streamed read together to series.
type seriesStream struct {
	body   *bufio.Reader
	frames *remote.ChunkedReader
	each   func(lset labels.Labels, chks []chunks.Meta) error
	alive  func()

	builder labels.ScratchBuilder
	lset    labels.Labels
	chks    []chunks.Meta
	some    bool // a series is at work
}

func (s *seriesStream) run() error {
	for {
		// The reader of frames would take an end within a frame's head for that
		// of the stream.
		if _, err := s.body.Peek(1); errors.Is(err, io.EOF) {
			return s.flush()
		}
		// A frame of its own each time: the chunks keep its bytes.
		var frame prompb.ChunkedReadResponse
		if err := s.frames.NextProto(&frame); err != nil {
			return fmt.Errorf("the stream broke off: %w", err)
		}
		s.alive()
		for _, series := range frame.ChunkedSeries {
			if err := s.add(series); err != nil {
				return err
			}
		}
	}
}

// add adds what a frame says of a series. A large series comes in several.
func (s *seriesStream) add(series *prompb.ChunkedSeries) error {
	s.builder.Reset()
	for _, l := range series.Labels {
		s.builder.Add(l.Name, l.Value)
	}
	s.builder.Sort()
	if lset := s.builder.Labels(); !s.some || !labels.Equal(lset, s.lset) {
		if err := s.flush(); err != nil {
			return err
		}
		s.some, s.lset = true, lset
	}
	for _, c := range series.Chunks {
		chunk, err := chunkenc.FromData(chunkenc.Encoding(c.Type), c.Data)
		if err != nil {
			return fmt.Errorf("%w: series %s: %w", errPermanent, s.lset, err)
		}
		s.chks = append(s.chks, chunks.Meta{MinTime: c.MinTimeMs, MaxTime: c.MaxTimeMs, Chunk: chunk})
	}
	return nil
}

// flush hands on the series at work, now complete.
func (s *seriesStream) flush() (err error) {
	if !s.some {
		return nil
	}
	chks := s.chks
	if !disjoint(chks) {
		chks, err = separated(s.lset, chks)
	}
	if err == nil {
		chks, err = joined(s.lset, chks)
	}
	if err != nil {
		return fmt.Errorf("series %s: %w", s.lset, err)
	}
	err = s.each(s.lset, chks)
	s.some, s.chks = false, s.chks[:0]
	return err
}
