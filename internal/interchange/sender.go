package interchange

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// attemptTimeout bounds one request; the server's own limit is below it.
	attemptTimeout = time.Minute

	writeContentType  = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
	headerVersion     = "X-Prometheus-Remote-Write-Version"
	headerFloats      = "X-Prometheus-Remote-Write-Samples-Written"
	headerHistograms  = "X-Prometheus-Remote-Write-Histograms-Written"
	remoteWriteNumber = "2.0.0"
)

// sender sends requests until the server has taken them. It is safe for
// concurrent use.
type sender struct {
	endpoint *Endpoint
	client   *http.Client
	retrier  *retrier
}

// outcome is what became of a request that the server has answered for good.
type outcome struct {
	written counts
	// refusal is the server's 400, nil when it took everything.
	refusal *StatusError
}

// send sends one body that holds sent samples. A 400 is no error but an
// outcome: the server has stored what it did not refuse.
func (s *sender) send(ctx context.Context, body []byte, sent counts) (outcome, error) {
	var o outcome
	err := s.retrier.do(ctx, func(ctx context.Context) (err error) {
		o, err = s.attempt(ctx, body, sent)
		return err
	})
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("write to %s: %w%s", s.endpoint.name(), err, hint(err))
	}
	return o, err
}

func (s *sender) attempt(ctx context.Context, body []byte, sent counts) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := s.endpoint.newRequest(ctx, writePath, body)
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %w", errPermanent, err)
	}
	req.Header.Set("Content-Type", writeContentType)
	req.Header.Set(headerVersion, remoteWriteNumber)
	resp, err := s.client.Do(req)
	if err != nil {
		return outcome{}, err
	}
	defer resp.Body.Close()
	written, counted := writtenCounts(resp.Header)
	o := outcome{written: written}
	switch {
	case resp.StatusCode == http.StatusBadRequest:
		o.refusal = statusError(resp, time.Now())
		if written.floats > sent.floats || written.histograms > sent.histograms {
			return o, fmt.Errorf("%w: the server says that it wrote %+v of %+v", errPermanent, written, sent)
		}
		return o, nil
	case resp.StatusCode/100 != 2:
		return o, statusError(resp, time.Now())
	case !counted:
		return o, fmt.Errorf("%w: the server answers %d without saying what it wrote, so it does not speak remote write 2.0", errPermanent, resp.StatusCode)
	case written != sent:
		return o, fmt.Errorf("%w: the server answers %d, but says that it wrote %+v of %+v", errPermanent, resp.StatusCode, written, sent)
	}
	// Read to the end, or the connection is not used again. The samples are
	// stored, whatever becomes of the rest of the answer.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorText))
	return o, nil
}

// writtenCounts reads the headers by which remote write 2.0 says what was
// written; a missing one stands for 0.
func writtenCounts(h http.Header) (written counts, ok bool) {
	var errs []error
	for name, n := range map[string]*int{headerFloats: &written.floats, headerHistograms: &written.histograms} {
		if text := h.Get(name); text != "" {
			var err error
			*n, err = strconv.Atoi(text)
			errs, ok = append(errs, err), true
		}
	}
	return written, ok && errors.Join(errs...) == nil
}
