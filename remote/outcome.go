package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// outcome is what became of one request.
type outcome struct {
	version version
	result  wire.WriteResult
	// err is the strongest error; nil when every row is stored.
	err error
}

// The headers by which RW 2.0 tells what was written.
const (
	headerSamples    = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms = "X-Prometheus-Remote-Write-Histograms-Written"
	headerExemplars  = "X-Prometheus-Remote-Write-Exemplars-Written"
)

// judge joins what was refused here with what the Appender returned into one
// error: that of the Appender if there is nothing else or if it is more than
// Invalid, since the sender must act on that; otherwise one of kind Invalid
// that names the first thing refused here and counts what both refused.
func judge(result wire.WriteResult, appendErr error, r *refusals) error {
	if r.first == "" || appendErr != nil && kindOf(appendErr) != quorate.Invalid {
		return appendErr
	}
	rows := r.parsed() + max(result.Refused, r.rows[refusedLabels])
	return quorate.Errorf(quorate.Invalid, "%s (the first of %d rows refused; all others are stored)", r.first, rows)
}

// kindOf is quorate.KindOf, with the errors of a context that ended as
// Unavailable: nobody knows what became of the rows, and a retry is safe.
func kindOf(err error) quorate.ErrorKind {
	kind := quorate.KindOf(err)
	if kind == quorate.Internal && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return quorate.Unavailable
	}
	return kind
}

// status is the status code that an error is answered with.
func status(err error) int {
	if err == nil {
		return http.StatusNoContent
	}
	switch kindOf(err) {
	case quorate.Invalid:
		return http.StatusBadRequest
	case quorate.TooLarge:
		return http.StatusRequestEntityTooLarge
	case quorate.Unsupported:
		return http.StatusUnsupportedMediaType
	case quorate.NotFound:
		return http.StatusNotFound
	case quorate.Limited:
		return http.StatusTooManyRequests
	case quorate.Unavailable:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// write answers the request and returns the status code. RW 1.0 gets no counts:
// its senders would take a zero for a confirmed one.
func (o outcome) write(w http.ResponseWriter, retryAfter time.Duration) int {
	header := w.Header()
	if o.version == version2 {
		header.Set(headerSamples, strconv.Itoa(o.result.Floats))
		header.Set(headerHistograms, strconv.Itoa(o.result.Histograms))
		header.Set(headerExemplars, strconv.Itoa(o.result.Exemplars))
	}
	code := status(o.err)
	if o.err == nil {
		w.WriteHeader(code)
		return code
	}
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		if e := (*quorate.Error)(nil); errors.As(o.err, &e) && e.RetryAfter > 0 {
			retryAfter = e.RetryAfter
		}
		seconds := (retryAfter + time.Second - 1) / time.Second
		header.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	http.Error(w, fmt.Sprintf("remote write: %v", o.err), code)
	return code
}
