package promql

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/httputil"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
)

// statusClientClosed is what upstream logs of a client that left: nginx's code.
const statusClientClosed = 499

// likeUpstream gives a handler of this package what upstream gives its own:
// answers that browsers of the allowed origins may read, compressed as the
// client accepts.
func (a *API) likeUpstream(h http.HandlerFunc) http.HandlerFunc {
	return httputil.CompressionHandler{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		httputil.SetCORS(w, a.origin, r)
		h(w, r)
	})}.ServeHTTP
}

// serveNotOffered answers endpoints of Prometheus that are not offered, so that
// upstream does not advise a flag that does not exist here.
func (a *API) serveNotOffered(w http.ResponseWriter, r *http.Request) {
	http.Error(w, r.URL.Path+" is not offered by this server", http.StatusNotFound)
}

// respond answers with data in Prometheus' envelope, and what there is to warn of.
func (a *API) respond(w http.ResponseWriter, data any, warnings annotations.Annotations) {
	a.write(w, http.StatusOK, &apiv1.Response{Status: "success", Data: data, Warnings: slices.Sorted(maps.Keys(warnings))})
}

// refuse answers with an error in Prometheus' envelope. The error's kind decides
// the status code and the error's type.
func (a *API) refuse(w http.ResponseWriter, err error) {
	setRetryAfter(w.Header(), err)
	kind, named := kindOf(err)
	code, errorType := statusOf(kind), errorTypeOf(kind)
	switch {
	case named:
	case errors.Is(err, context.DeadlineExceeded):
		code, errorType = http.StatusServiceUnavailable, "timeout"
	case errors.Is(err, context.Canceled):
		code, errorType = statusClientClosed, "canceled"
	}
	a.write(w, code, &apiv1.Response{Status: "error", ErrorType: errorType, Error: err.Error()})
}

func (a *API) write(w http.ResponseWriter, code int, body *apiv1.Response) {
	encoded, err := json.Marshal(body)
	if err != nil {
		a.config.Logger.Error("an answer of the query API does not encode", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(encoded)
}
