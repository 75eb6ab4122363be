package promql

import (
	"net/http"
	"slices"

	"github.com/quorate/quorate"
)

// A request says by one of these how current its answer is to be; the header is
// for clients that cannot add a parameter, such as remote read.
const (
	ConsistencyHeader    = "X-Quorate-Consistency"
	consistencyParameter = "consistency"
)

// sourceAt returns what is read at a consistency: Config.Queryable at the default
// one. Its error is of kind Invalid.
func (a *API) sourceAt(c quorate.Consistency) (Queryable, error) {
	switch {
	case c == quorate.ConsistencyDefault:
		return a.config.Queryable, nil
	case a.config.Consistent == nil:
		return nil, quorate.Errorf(quorate.Invalid, "consistency %v is not offered by this server", c)
	}
	return a.config.Consistent(c), nil
}

// consistencyOf reads the consistency that a request asks for.
func consistencyOf(r *http.Request) (quorate.Consistency, error) {
	query := r.URL.Query()
	if r.Method == http.MethodPost && r.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		// Parsed once; upstream's handlers then find the same form.
		if err := r.ParseForm(); err != nil {
			return 0, quorate.Errorf(quorate.Invalid, "error parsing form values: %w", err)
		}
		query = r.Form
	}
	given := slices.Concat(r.Header.Values(ConsistencyHeader), query[consistencyParameter])
	if len(given) == 0 {
		return quorate.ConsistencyDefault, nil
	}
	for _, other := range given[1:] {
		if other != given[0] {
			return 0, quorate.Errorf(quorate.Invalid, "header %s and parameter %s name two consistencies: %q and %q",
				ConsistencyHeader, consistencyParameter, given[0], other)
		}
	}
	return quorate.ParseConsistency(given[0])
}
