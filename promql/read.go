package promql

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/storage/remote"
)

// maxReadRequestBytes bounds a remote-read request, compressed and not. A
// request is a few matchers; its answer is what may be large.
const maxReadRequestBytes = 1 << 20

// checkedRead passes on remote-read requests that upstream's handler will not
// fail on: it allocates up to 32 MiB for a request, and calls a matcher that
// does not parse a fault of the server.
func checkedRead(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReadRequestBytes))
		if err == nil {
			err = checkReadRequest(body)
		}
		var tooLarge *http.MaxBytesError
		switch {
		case errors.As(err, &tooLarge):
			http.Error(w, "remote read: "+err.Error(), http.StatusRequestEntityTooLarge)
			return
		case err != nil:
			http.Error(w, "remote read: "+err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(w, r)
	}
}

func checkReadRequest(body []byte) error {
	// Judged before anything of the declared size is allocated.
	if n, err := snappy.DecodedLen(body); err != nil {
		return err
	} else if n > maxReadRequestBytes {
		return &http.MaxBytesError{Limit: maxReadRequestBytes}
	}
	request, err := remote.DecodeReadRequest(&http.Request{Body: io.NopCloser(bytes.NewReader(body))})
	if err != nil {
		return err
	}
	for _, q := range request.Queries {
		if _, err := remote.FromLabelMatchers(q.Matchers); err != nil {
			return err
		}
	}
	return nil
}
