package promql_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/promql"
)

// reads is one request to every endpoint that reads storage.
var reads = []string{
	"/query?query=up&time=1700000000",
	"/query_range?query=up&start=1699999970&end=1700000000&step=15",
	"/labels", "/labels?match%5B%5D=up&match%5B%5D=latency",
	"/label/job/values",
	"/series?match%5B%5D=up", "/series?match%5B%5D=up&match%5B%5D=latency",
	"/query_exemplars?query=up&start=1&end=2",
	"/metadata", "/status/tsdb",
	"/search/label_names",
}

func TestTheKindOfAStorageErrorDecidesTheStatus(t *testing.T) {
	s := serve(t)
	busy := &quorate.Error{Kind: quorate.Unavailable, Err: errors.New("set 7 has no leader"), RetryAfter: 2500 * time.Millisecond}
	for _, c := range []struct {
		err        error
		code       int
		errorType  string // where upstream has a word for it
		retryAfter string
	}{
		{busy, http.StatusServiceUnavailable, "unavailable", "3"},
		{fmt.Errorf("shard 2: %w", busy), http.StatusServiceUnavailable, "unavailable", "3"},
		{quorate.Errorf(quorate.Unavailable, "overloaded"), http.StatusServiceUnavailable, "unavailable", "1"},
		{quorate.Errorf(quorate.Limited, "too many queries"), http.StatusTooManyRequests, "", "1"},
		{quorate.Errorf(quorate.TooLarge, "too many series"), http.StatusUnprocessableEntity, "", ""},
		{quorate.Errorf(quorate.Invalid, "no such thing"), http.StatusBadRequest, "", ""},
		{quorate.Errorf(quorate.NotFound, "dropped"), http.StatusNotFound, "", ""},
		{quorate.Errorf(quorate.Internal, "bug"), http.StatusInternalServerError, "", ""},
		{errors.New("plain"), http.StatusInternalServerError, "", ""},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, "", ""},
		{context.Canceled, 499, "", ""},
	} {
		s.store.fail(c.err)
		for _, path := range reads {
			t.Run(fmt.Sprint(c.err, " at ", path), func(t *testing.T) {
				r := s.get(t, "/api/v1"+path)
				if r.code != c.code || r.Status != "error" || !strings.Contains(r.Error, c.err.Error()) {
					t.Errorf("answer is %d %s, want %d with %q", r.code, r.body, c.code, c.err)
				}
				if c.errorType != "" && r.ErrorType != c.errorType {
					t.Errorf("errorType is %q, want %q", r.ErrorType, c.errorType)
				}
				if got := r.header.Get("Retry-After"); got != c.retryAfter {
					t.Errorf("Retry-After is %q, want %q", got, c.retryAfter)
				}
			})
		}
	}
}

func TestAnErrorAfterTheLastSeriesIsNoAnswer(t *testing.T) {
	s := serve(t)
	s.store.failLate(quorate.Errorf(quorate.Unavailable, "set 7 stopped"))
	for _, path := range []string{reads[0], reads[1], "/series?match%5B%5D=up"} {
		s.get(t, "/api/v1"+path).refuses(t, http.StatusServiceUnavailable, "unavailable", "set 7 stopped")
	}
	never(t, "queriers left open", s.store.opened.Load()-s.store.closed.Load())
}

func TestQueriesThatNeedNoStorageAreAnsweredWithoutIt(t *testing.T) {
	s := serve(t)
	s.store.fail(quorate.Errorf(quorate.Unavailable, "down"))
	s.post(t, "/api/v1/query", url.Values{"query": {"1+1"}, "time": {"4"}}).wants(t, `{"resultType":"scalar","result":[4,"2"]}`)
}

func TestAQueryThatRunsOutOfTimeSaysSo(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.Engine.Timeout = 20 * time.Millisecond })
	s.store.gate = make(chan struct{}) // never opened
	r := s.get(t, "/api/v1/query?query=up&time=1700000000")
	r.refuses(t, http.StatusServiceUnavailable, "timeout", "")
	if r.header.Get("Retry-After") != "" {
		t.Error("a query that ran into its own timeout is told to come again")
	}
}

func TestAQueryOverTheSampleLimitIsA422(t *testing.T) {
	s := serve(t, func(c *promql.Config) { c.Engine.MaxSamples = 10 })
	s.get(t, "/api/v1/query?query=up%5B10m%5D&time=1700000000").refuses(t, http.StatusUnprocessableEntity, "execution", "too many samples")
}
