package interchange

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/tenancy"
)

const (
	writePath = "/api/v1/write"
	readPath  = "/api/v1/read"

	// maxErrorText is how much of an answer's text is shown to the user.
	maxErrorText = 2 << 10
	// mostRetryAfter bounds how long a server can make its client wait.
	mostRetryAfter = 5 * time.Minute
)

// Endpoint is the server that samples go to or come from.
type Endpoint struct {
	// URL is where the server's API begins, such as http://127.0.0.1:9240. A
	// user and password in it are sent as basic authentication.
	URL *url.URL
	// Tenant is the tenant to speak for; empty sends no header, which is right
	// for a server without multi-tenancy.
	Tenant string
	// TenantHeader names the header that carries the tenant; empty means
	// X-Scope-OrgID.
	TenantHeader string
	// Client sends the requests; nil means one of its own.
	Client *http.Client
}

// Validate tells what is missing.
func (e *Endpoint) Validate() error {
	if e.URL == nil || e.URL.Host == "" || e.URL.Scheme != "http" && e.URL.Scheme != "https" {
		return fmt.Errorf("URL %v: want http://HOST:PORT or https://HOST:PORT", e.URL)
	}
	return nil
}

// name is the URL as it is shown and recorded: without a password.
func (e *Endpoint) name() string {
	u := *e.URL
	u.User = nil
	return strings.TrimSuffix(u.String(), "/")
}

func (e *Endpoint) client(connections int) *http.Client {
	if e.Client != nil {
		return e.Client
	}
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     90 * time.Second,
		// Bodies are snappy already.
		DisableCompression: true,
	}
	return &http.Client{Transport: transport}
}

// newRequest makes a POST of a body to a path of the API.
func (e *Endpoint) newRequest(ctx context.Context, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "quorate")
	if e.Tenant != "" {
		header := e.TenantHeader
		if header == "" {
			header = tenancy.DefaultHeader
		}
		req.Header.Set(header, e.Tenant)
	}
	return req, nil
}

// StatusError is an answer of the server that is no success.
type StatusError struct {
	// Code is the HTTP status, Text what the server said beside it.
	Code int
	Text string
	// RetryAfter is how long the server asked to wait; 0 if it did not.
	RetryAfter time.Duration
}

// Error quotes the server.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// passing tells an answer that another attempt may better.
func (e *StatusError) passing() bool {
	return e.Code == http.StatusTooManyRequests || e.Code >= 500 && e.Code != http.StatusNotImplemented
}

// statusError reads an answer that is no success.
func statusError(resp *http.Response, now time.Time) *StatusError {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
	if err != nil {
		text = append(text, "..."...)
	}
	return &StatusError{
		Code: resp.StatusCode, Text: strings.TrimSpace(string(text)),
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}
}

// retryAfter parses the header of that name: seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	var d time.Duration
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), mostRetryAfter)
}

// hint says what the user can do about an answer, in parentheses, or nothing.
func hint(err error) string {
	var status *StatusError
	if !errors.As(err, &status) {
		return ""
	}
	switch status.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return " (give user and password in the URL: http://USER:PASSWORD@HOST:PORT)"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return " (is the URL that of the server itself, without /api/v1/...?)"
	case http.StatusRequestEntityTooLarge:
		return " (send less at once: a smaller --batch-samples)"
	case http.StatusUnsupportedMediaType:
		return " (the server must speak remote write 2.0)"
	}
	return ""
}
