package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// outcome is what a writer knows about one sample.
type outcome uint8

const (
	unsent  outcome = iota
	unknown         // sent, but nobody said that it was written
	acked           // answered with 2xx
)

const (
	seriesPerWriter = 250
	// tickMillis lets the samples of a run spread over the better part of a
	// day, so that they lie in two buckets for most of it.
	tickMillis = 1000
)

// writer is one client with series of its own. Each of its requests carries one
// tick: a sample of each of its series. All values are distinct, and a value
// says which series and tick it belongs to, so that a sample in the wrong place
// is told from the right one.
type writer struct {
	number   int
	tenant   string
	urls     []string // of the nodes it may write to
	at       int      // which of them it writes to
	start    int64    // time of tick 0, in ms
	live     bool     // no tick is sent before its time has come
	every    time.Duration
	due      time.Time // when the next tick is sent at the earliest
	random   *rand.Rand
	outcomes []outcome // by tick; the samples of a request share their fate
	pending  int       // the tick to send again; -1 for none
	resent   int       // requests sent again after an unknown outcome
	// requests counts those sent; refused those of them that a node answered
	// with a 503, cutOff those that got no answer.
	requests, refused, cutOff int
	// lastAck and slowest tell how long it took at most from one acknowledged
	// request to the next.
	lastAck time.Time
	slowest time.Duration
}

func (w *writer) time(tick int) int64 { return w.start + int64(tick)*tickMillis }

func (w *writer) value(series, tick int) float64 {
	return float64(w.number*seriesPerWriter+series)*1e6 + float64(tick)
}

func (w *writer) seriesName(series int) string { return fmt.Sprintf("w%d-s%d", w.number, series) }

// run sends ticks until the context ends, half of the time sending a request of
// unknown outcome again, half of the time leaving it unknown for ever. Where
// there are several nodes, it turns to the next when one fails; a lone one that
// is gone ends the run. It returns an error for an answer that no healthy server
// gives.
func (w *writer) run(ctx context.Context, client *http.Client, inFlight *atomic.Int64) error {
	w.lastAck = time.Now()
	for ctx.Err() == nil {
		tick := w.pending
		if tick < 0 {
			tick = len(w.outcomes)
			w.await(ctx, tick)
			w.outcomes = append(w.outcomes, unknown)
		} else {
			w.resent++
		}
		inFlight.Add(1)
		status, text, err := w.send(ctx, client, tick)
		inFlight.Add(-1)
		w.requests++
		switch {
		case err == nil && status/100 == 2:
			w.outcomes[tick] = acked
			w.pending = -1
			w.slowest = max(w.slowest, time.Since(w.lastAck))
			w.lastAck = time.Now()
		case err == nil && status != http.StatusServiceUnavailable:
			return fmt.Errorf("writer %d, tick %d: %d %s", w.number, tick, status, text)
		default:
			switch {
			case err == nil:
				w.refused++
			case ctx.Err() == nil:
				w.cutOff++
			}
			w.pending = tick
			if w.random.IntN(2) == 0 {
				w.pending = -1
			}
			w.at = (w.at + 1) % len(w.urls)
			if len(w.urls) > 1 {
				pause(ctx, 10*time.Millisecond)
				continue
			}
			if err != nil {
				// The server is gone; the round ends as soon as the test notices.
				return nil //nolint:nilerr // an error of the connection is an unknown outcome, recorded above
			}
		}
	}
	return nil
}

// await waits until a tick is due: its time has come, or the pace allows it.
func (w *writer) await(ctx context.Context, tick int) {
	switch {
	case w.live:
		w.due = time.UnixMilli(w.time(tick))
	case w.every > 0:
		w.due = w.due.Add(w.every)
		if late := time.Now(); late.After(w.due) {
			w.due = late
		}
	default:
		return
	}
	pause(ctx, time.Until(w.due))
}

// send writes one tick. An error means that no answer came.
func (w *writer) send(ctx context.Context, client *http.Client, tick int) (status int, text []byte, err error) {
	message := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, seriesPerWriter)}
	for i := range message.Timeseries {
		message.Timeseries[i] = prompb.TimeSeries{
			Labels: []prompb.Label{
				{Name: "__name__", Value: "load"},
				{Name: "padding", Value: "some text that makes the labels as long as labels are in life"},
				{Name: "series", Value: w.seriesName(i)},
			},
			Samples: []prompb.Sample{{Timestamp: w.time(tick), Value: w.value(i, tick)}},
		}
	}
	body, err := message.Marshal()
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.urls[w.at], bytes.NewReader(snappy.Encode(nil, body)))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	req.Header.Set("X-Scope-OrgID", w.tenant)
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, text, err
}

// load is a set of writers that work at the same time.
type load struct {
	writers  []*writer
	inFlight atomic.Int64
}

// newLoad makes writers that share out the tenants.
func newLoad(url string, writers int, start time.Time, tenants ...string) *load {
	return newLoadOn([]string{url}, writers, start, tenants...)
}

// newLoadOn makes writers that share out the nodes as well, to begin with.
func newLoadOn(urls []string, writers int, start time.Time, tenants ...string) *load {
	l := &load{}
	for i := range writers {
		l.writers = append(l.writers, &writer{
			number: i, tenant: tenants[i%len(tenants)], urls: urls, at: i % len(urls), start: start.UnixMilli(),
			random: rand.New(rand.NewPCG(uint64(i), 7)), pending: -1,
		})
	}
	return l
}

// newLiveLoad makes writers whose samples are of the time at which they are sent.
func newLiveLoad(urls []string, writers int, tenants ...string) *load {
	l := newLoadOn(urls, writers, time.Now(), tenants...)
	for _, w := range l.writers {
		w.live = true
	}
	return l
}

// pause waits, unless the context ends before.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// slowest is the longest time that each writer was without an acknowledgement
// since the last call.
func (l *load) slowest() (longest []time.Duration) {
	for _, w := range l.writers {
		longest = append(longest, w.slowest)
		w.slowest = 0
	}
	return longest
}

// fates returns the number of requests, of those that a node refused (503), and
// of those that got no answer.
func (l *load) fates() (requests, refused, cutOff int) {
	for _, w := range l.writers {
		requests, refused, cutOff = requests+w.requests, refused+w.refused, cutOff+w.cutOff
	}
	return requests, refused, cutOff
}

// during runs the writers while do runs, and until each has noticed that do is
// over or the server gone.
func (l *load) during(t *testing.T, do func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	transport := &http.Transport{MaxIdleConnsPerHost: len(l.writers)}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var writing sync.WaitGroup
	errs := make([]error, len(l.writers))
	for i, w := range l.writers {
		writing.Go(func() { errs[i] = w.run(ctx, client, &l.inFlight) })
	}
	do()
	cancel()
	writing.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

// count returns the number of samples by outcome, and of requests sent again.
func (l *load) count() (ackedSamples, unknownSamples, resent int) {
	for _, w := range l.writers {
		resent += w.resent
		for _, o := range w.outcomes {
			switch o {
			case acked:
				ackedSamples += seriesPerWriter
			case unknown:
				unknownSamples += seriesPerWriter
			case unsent:
			}
		}
	}
	return ackedSamples, unknownSamples, resent
}

// parseSeriesName is the inverse of writer.seriesName.
func parseSeriesName(name string) (writer, series int, err error) {
	_, err = fmt.Sscanf(name, "w%d-s%d", &writer, &series)
	return writer, series, err
}

func formatValue(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
