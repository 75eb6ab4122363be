package promql

import (
	"context"
	"errors"
	"net/http"

	upstream "github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/quorate/quorate"
)

// storageError is an error of the storage with a mark beside it: an error of
// upstream's vocabulary, by which upstream's handlers choose the errorType of
// their answer. Its text is the storage's alone.
type storageError struct{ err, mark error }

func (e *storageError) Error() string   { return e.err.Error() }
func (e *storageError) Unwrap() []error { return []error{e.err, e.mark} }

// fromStorage marks an error of the Queryable for upstream's handlers and notes
// it on the request, so that the answer can carry Retry-After.
func fromStorage(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	noteFailure(ctx, err)
	if marked := (*storageError)(nil); errors.As(err, &marked) {
		return err
	}
	kind, named := kindOf(err)
	switch {
	case named && kind == quorate.Unavailable:
		return &storageError{err, tsdb.ErrNotReady}
	case named && kind != quorate.Internal:
		return err
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &storageError{err, upstream.ErrQueryTimeout("reading from storage")}
	}
	return &storageError{err, upstream.ErrStorage{Err: err}}
}

// kindOf returns the kind that an error carries, and whether it carries one.
func kindOf(err error) (quorate.ErrorKind, bool) {
	var e *quorate.Error
	if !errors.As(err, &e) {
		return quorate.Internal, false
	}
	return e.Kind, true
}

// statusOf maps a kind to the status code of a failed read, and errorTypeOf to
// the errorType that stands beside it.
func statusOf(kind quorate.ErrorKind) int {
	switch kind {
	case quorate.Invalid:
		return http.StatusBadRequest
	case quorate.TooLarge:
		// A query that would touch too much is well formed; Prometheus answers
		// 422 to it, and Grafana shows the text of a 422 but not of a 413.
		return http.StatusUnprocessableEntity
	case quorate.Unsupported:
		return http.StatusUnsupportedMediaType
	case quorate.NotFound:
		return http.StatusNotFound
	case quorate.Limited:
		return http.StatusTooManyRequests
	case quorate.Unavailable:
		return http.StatusServiceUnavailable
	case quorate.Internal:
	}
	return http.StatusInternalServerError
}

func errorTypeOf(kind quorate.ErrorKind) string {
	switch kind {
	case quorate.Invalid, quorate.Unsupported:
		return "bad_data"
	case quorate.TooLarge:
		return "execution"
	case quorate.NotFound:
		return "not_found"
	case quorate.Limited:
		return "too_many_requests"
	case quorate.Unavailable:
		return "unavailable"
	case quorate.Internal:
	}
	return "internal"
}

// overrideStatus returns the apiv1.OverrideErrorCode that gives an error which
// carries a kind that kind's status, and mends those conditions for which
// upstream itself knows only 500 or 422. Upstream does not export the type of
// its error numbers: it is inferred from the one number that matters here.
func overrideStatus[N comparable](unavailable N) func(N, error) (int, bool) {
	return func(num N, err error) (int, bool) {
		if kind, named := kindOf(err); named {
			return statusOf(kind), true
		}
		if num == unavailable {
			return http.StatusServiceUnavailable, true
		}
		// Some handlers of upstream call every error of the storage an
		// execution error; what the client did not ask for is not its 422.
		if errors.Is(err, context.Canceled) {
			return statusClientClosed, true
		}
		var fault upstream.ErrStorage
		if errors.As(err, &fault) {
			return http.StatusInternalServerError, true
		}
		var timeout upstream.ErrQueryTimeout
		if errors.As(err, &timeout) {
			return http.StatusServiceUnavailable, true
		}
		return 0, false
	}
}
