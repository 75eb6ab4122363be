package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// traceLines is how much of a run is kept to be looked at when it fails.
const traceLines = 500

// trace keeps the last events of a run.
type trace struct {
	began time.Time

	mu    sync.Mutex
	lines []string
	// next is where the next line goes once there are traceLines.
	next int
}

func newTrace() *trace { return &trace{began: time.Now()} }

func (t *trace) add(format string, args ...any) {
	line := fmt.Sprintf("%11.4fs  %s", time.Since(t.began).Seconds(), fmt.Sprintf(format, args...))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < traceLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % traceLines
}

// all returns the lines that are kept, oldest first.
func (t *trace) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
}

// logger writes what a node reports, from warnings up, into the trace.
func (t *trace) logger(node string) *slog.Logger {
	return slog.New(&traceHandler{trace: t, prefix: node})
}

// traceHandler is a slog.Handler that writes to a trace.
type traceHandler struct {
	trace  *trace
	prefix string
}

// Enabled implements slog.Handler.
func (h *traceHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle implements slog.Handler.
func (h *traceHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	h.trace.add("%s logs: %s%s", h.prefix, r.Message, b.String())
	return nil
}

// WithAttrs implements slog.Handler. Of a replica's attributes the set says all
// that the prefix does not.
func (h *traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "set" {
			return &traceHandler{trace: h.trace, prefix: fmt.Sprintf("%s, set %v", h.prefix, a.Value)}
		}
	}
	return h
}

// WithGroup implements slog.Handler.
func (h *traceHandler) WithGroup(string) slog.Handler { return h }
