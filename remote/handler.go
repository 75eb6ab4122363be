package remote

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// Appender stores the rows of a request. The router satisfies it. It is called
// concurrently.
type Appender interface {
	// Append stores a tenant's rows durably before it returns. The result
	// carries what was stored, also beside an error. Errors are of the kinds
	// Invalid (some rows must not be sent again; all others were stored; its
	// text names the first and counts them), Limited (the tenant's own limit)
	// and Unavailable (a retry is needed, and safe); the strongest is
	// Unavailable, the weakest Invalid. The request and what it aliases may
	// not be used after the return.
	Append(ctx context.Context, tenant quorate.TenantID, req *wire.WriteRequest) (wire.WriteResult, error)
}

// Tenants maps a tenant's name to its number. It is called concurrently.
type Tenants interface {
	// EnsureTenant returns the number of the tenant of that (valid) name and
	// creates the tenant if there is none.
	EnsureTenant(ctx context.Context, name string) (quorate.TenantID, error)
}

// Handler takes remote write requests. It is safe for concurrent use and
// starts no goroutines.
type Handler struct {
	config   Config
	appender Appender
	tenants  Tenants
	hasher   *hasher
	metrics  *metrics
	metadata *metadataCache

	bytes    budget // Config.MaxInflightBytes
	requests budget // Config.MaxConcurrent

	buffers sync.Pool // of *buffers
	parsed  sync.Pool // of *request

	// nextLog is when, in Unix nanoseconds, the next refusal may be logged.
	nextLog atomic.Int64
}

// buffers are the bytes of one request: as sent, and decompressed.
type buffers struct{ packed, body []byte }

// logEvery is how often a refused request is logged: a sender with bad data
// sends it all day.
const logEvery = 10 * time.Second

// NewHandler makes a Handler. It fails on an invalid Config or when its
// metrics are registered already.
func NewHandler(config Config, appender Appender, tenants Tenants) (*Handler, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	h := &Handler{
		config: config.withDefaults(), appender: appender, tenants: tenants,
		hasher: newHasher(), metadata: newMetadataCache(metadataPeriod, metadataEntries),
	}
	h.bytes.limit, h.requests.limit = h.config.MaxInflightBytes, int64(h.config.MaxConcurrent)
	h.buffers.New = func() any { return new(buffers) }
	h.parsed.New = func() any {
		return &request{hasher: h.hasher, limits: h.config.Limits, maxHistogramBytes: h.config.MaxHistogramBytes}
	}
	var err error
	if h.metrics, err = newMetrics(config.Registerer, &h.bytes, &h.requests); err != nil {
		return nil, err
	}
	return h, nil
}

// ServeHTTP answers one remote write request. Mount it for every method, so
// that others than POST get a 405 of its own.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.config.Now()
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "remote write: the method is POST", http.StatusMethodNotAllowed)
		h.metrics.answered(versionNone, http.StatusMethodNotAllowed, h.config.Now().Sub(start))
		return
	}
	o := h.serve(w, r)
	code := o.write(w, h.config.RetryAfter)
	h.metrics.answered(o.version, code, h.config.Now().Sub(start))
	if o.err != nil {
		h.log(r, o, code)
	}
}

// serve does all that comes before the answer.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request) outcome {
	v, err := negotiate(r.Header)
	if err != nil {
		return outcome{version: v, err: err}
	}
	name, err := h.config.Tenancy.FromRequest(r)
	if err != nil {
		return outcome{version: v, err: err}
	}
	held := lease{budget: &h.bytes}
	defer held.release()
	buf := h.buffers.Get().(*buffers)
	defer h.putBuffers(buf)
	if err := h.receive(w, r, buf, &held); err != nil {
		return outcome{version: v, err: err}
	}
	if !h.requests.take(1) {
		return outcome{version: v, err: quorate.Errorf(quorate.Unavailable, "%d other requests are in flight; try again", h.config.MaxConcurrent)}
	}
	defer h.requests.give(1)
	q := h.parsed.Get().(*request)
	defer h.putRequest(q)
	q.reset(v, buf.body, h.config.MaxRows)
	if err := q.parse(); err != nil {
		return outcome{version: v, err: err}
	}
	result, err := h.append(r.Context(), name, q)
	h.metrics.appended(result, &q.refusals)
	return outcome{version: v, result: result, err: judge(result, err, &q.refusals)}
}

// receive reads a request's body and decompresses it into buf.body. What the
// body held as sent is given back.
func (h *Handler) receive(w http.ResponseWriter, r *http.Request, buf *buffers, held *lease) error {
	r.Body = http.MaxBytesReader(w, r.Body, h.config.MaxWireBytes)
	control := http.NewResponseController(w)
	// A writer that cannot set deadlines is a test's; the server's own
	// timeouts are behind this one anyway.
	_ = control.SetReadDeadline(h.config.Now().Add(h.config.BodyTimeout))
	var err error
	if buf.packed, err = readBody(buf.packed[:0], r, h.config.MaxWireBytes, held); err != nil {
		return err
	}
	// The server watches the connection while the rows are stored: a deadline
	// that passes then would cancel the request.
	_ = control.SetReadDeadline(time.Time{})
	h.metrics.wireBytes.Add(float64(len(buf.packed)))
	packed := held.held
	if buf.body, err = decodeBody(buf.body, buf.packed, h.config.MaxDecodedBytes, held); err != nil {
		return err
	}
	dropOutsized(&buf.packed, keepBuffer)
	held.give(packed)
	h.metrics.decodedBytes.Add(float64(len(buf.body)))
	return nil
}

// append hands what was parsed to the Appender. The tenant is created only
// now, for a request that has something to store.
func (h *Handler) append(ctx context.Context, name string, q *request) (wire.WriteResult, error) {
	if len(q.Series) == 0 && len(q.metadata.items) == 0 {
		return wire.WriteResult{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, h.config.AppendTimeout)
	defer cancel()
	tenant, err := h.tenants.EnsureTenant(ctx, name)
	if err != nil {
		return wire.WriteResult{}, err
	}
	h.metadata.selectNew(h.config.Now(), tenant, q)
	if len(q.Series) == 0 && len(q.Metadata) == 0 {
		return wire.WriteResult{}, nil
	}
	result, err := h.appender.Append(ctx, tenant, &q.WriteRequest)
	if err == nil || kindOf(err) == quorate.Invalid {
		h.metadata.stored(q)
	}
	return result, err
}

// log logs a request that failed: a fault of the server always, others at
// debug level and rarely.
func (h *Handler) log(r *http.Request, o outcome, code int) {
	attrs := []slog.Attr{
		slog.String("error", o.err.Error()), slog.Int("code", code),
		slog.String("version", o.version.String()), slog.String("remote_addr", r.RemoteAddr),
	}
	if code == http.StatusInternalServerError {
		h.config.Logger.LogAttrs(r.Context(), slog.LevelError, "remote write failed", attrs...)
		return
	}
	now := h.config.Now().UnixNano()
	next := h.nextLog.Load()
	if now < next || !h.nextLog.CompareAndSwap(next, now+int64(logEvery)) {
		return
	}
	h.config.Logger.LogAttrs(r.Context(), slog.LevelDebug, "remote write refused", attrs...)
}

func (h *Handler) putBuffers(b *buffers) {
	dropOutsized(&b.packed, keepBuffer)
	dropOutsized(&b.body, keepBuffer)
	h.buffers.Put(b)
}

func (h *Handler) putRequest(q *request) {
	q.release()
	h.parsed.Put(q)
}
