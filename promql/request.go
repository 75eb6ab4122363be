package promql

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
)

// WarningHeader carries what there is to warn of, one value each, where the
// answer itself has no place for it: that of query_exemplars.
const WarningHeader = "X-Quorate-Warning"

var errNoRequest = errors.New("the context belongs to no request of this API, so it names no tenant")

// request is what the context of a request carries through upstream's handlers:
// whose it is, what it reads from, and how its storage failed.
type request struct {
	tenant Tenant
	source Queryable

	mu       sync.Mutex
	failure  error // the first that the storage gave
	warnings annotations.Annotations
}

type requestKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

func requestOf(ctx context.Context) (*request, bool) {
	r, ok := ctx.Value(requestKey{}).(*request)
	return r, ok
}

// tenantOf is the tenant of the request that a context belongs to, for what
// changes its data: one that may be there although it was not found is an error.
func tenantOf(ctx context.Context) (Tenant, error) {
	r, ok := requestOf(ctx)
	if !ok {
		return Tenant{}, errNoRequest
	}
	if !r.tenant.Found && len(r.tenant.Warnings) > 0 {
		return Tenant{}, quorate.Errorf(quorate.Unavailable, "the tenant is not known here: %w", errors.Join(r.tenant.Warnings.AsErrors()...))
	}
	return r.tenant, nil
}

// readOf is what the request that a context belongs to reads.
func readOf(ctx context.Context) (reading, error) {
	r, ok := requestOf(ctx)
	if !ok {
		return reading{}, errNoRequest
	}
	return reading{r.source, r.tenant}, nil
}

func noteFailure(ctx context.Context, err error) {
	if r, ok := requestOf(ctx); ok {
		r.note(err)
	}
}

func noteWarnings(ctx context.Context, of annotations.Annotations) {
	if r, ok := requestOf(ctx); ok {
		r.warn(of)
	}
}

func (r *request) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
	}
}

// warn notes what the answer is to carry in its header: the part of the API that
// answers has no place for warnings.
func (r *request) warn(of annotations.Annotations) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.warnings.Merge(of)
}

// writeWarnings adds a header for each warning that was noted.
func (r *request) writeWarnings(h http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range slices.Sorted(maps.Keys(r.warnings)) {
		h.Add(WarningHeader, strings.Join(strings.Fields(text), " "))
	}
}

func (r *request) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// tenanted answers only requests that name a valid tenant and consistency, and
// puts into their context whose they are and what they read from.
func (a *API) tenanted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodOptions {
			// A browser's preflight cannot carry the tenant's header.
			next(w, r)
			return
		}
		name, err := a.config.Tenancy.FromRequest(r)
		if err != nil {
			a.refuse(w, err)
			return
		}
		consistency, err := consistencyOf(r)
		if err != nil {
			a.refuse(w, err)
			return
		}
		req := &request{}
		if req.source, err = a.sourceAt(consistency); err != nil {
			a.refuse(w, err)
			return
		}
		if req.tenant, err = a.config.Tenants.Tenant(r.Context(), name, consistency); err != nil {
			a.refuse(w, err)
			return
		}
		next(&answer{ResponseWriter: w, request: req}, r.WithContext(withRequest(r.Context(), req)))
	}
}

// answer adds what upstream's handlers cannot know of a failed answer: when to
// try again and, for remote read, which kind of failure it was.
type answer struct {
	http.ResponseWriter
	request *request
}

// WriteHeader sends the status code, mended where the storage failed.
func (w *answer) WriteHeader(code int) {
	err := w.request.failed()
	if kind, named := kindOf(err); named && code == http.StatusInternalServerError {
		// Upstream's remote-read handler answers 500 to whatever the storage
		// says; every other handler has asked overrideStatus already.
		code = statusOf(kind)
	}
	w.request.writeWarnings(w.Header())
	if code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests {
		setRetryAfter(w.Header(), err)
	}
	w.ResponseWriter.WriteHeader(code)
}

// Flush lets the streaming answers (remote read, search) through.
func (w *answer) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// setRetryAfter says when to try again, where err is of a kind that passes. A
// query that ran into its own timeout is none: the same would happen again.
func setRetryAfter(h http.Header, err error) {
	var e *quorate.Error
	if !errors.As(err, &e) || (e.Kind != quorate.Unavailable && e.Kind != quorate.Limited) {
		return
	}
	after := e.RetryAfter
	if after <= 0 {
		after = defaultRetryAfter
	}
	h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
}
