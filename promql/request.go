package promql

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"sync"

	"github.com/quorate/quorate"
)

var errNoRequest = errors.New("the context belongs to no request of this API, so it names no tenant")

// request is what the context of a request carries through upstream's handlers:
// whose it is, what it reads from, and how its storage failed.
type request struct {
	tenant quorate.TenantID
	found  bool
	source Queryable

	mu      sync.Mutex
	failure error // the first that the storage gave
}

type requestKey struct{}

func withRequest(ctx context.Context, r *request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

func requestOf(ctx context.Context) (*request, bool) {
	r, ok := ctx.Value(requestKey{}).(*request)
	return r, ok
}

// tenantOf is the tenant of the request that a context belongs to.
func tenantOf(ctx context.Context) (quorate.TenantID, bool, error) {
	r, ok := requestOf(ctx)
	if !ok {
		return 0, false, errNoRequest
	}
	return r.tenant, r.found, nil
}

// readOf is what the request that a context belongs to reads.
func readOf(ctx context.Context) (reading, error) {
	r, ok := requestOf(ctx)
	if !ok {
		return reading{}, errNoRequest
	}
	return reading{r.source, r.tenant, r.found}, nil
}

func noteFailure(ctx context.Context, err error) {
	if r, ok := requestOf(ctx); ok {
		r.note(err)
	}
}

func (r *request) note(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		r.failure = err
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
		req := &request{}
		if req.source, err = a.sourceOf(r); err != nil {
			a.refuse(w, err)
			return
		}
		if req.tenant, req.found, err = a.config.Tenants.Tenant(r.Context(), name); err != nil {
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
