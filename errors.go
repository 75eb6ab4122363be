package quorate

import (
	"errors"
	"fmt"
	"time"
)

// ErrorKind is the closed set of reasons for which a request fails. The edges
// map a kind to a status code; nothing decides on an error's text.
type ErrorKind uint8

const (
	// Internal is a fault of the server that no other kind names (500).
	Internal ErrorKind = iota
	// Invalid is input that must not be sent again as it is (400).
	Invalid
	// TooLarge is a request over a size limit (413).
	TooLarge
	// Unsupported is a content type or encoding that is not spoken here (415).
	Unsupported
	// NotFound names something that does not exist (404).
	NotFound
	// Limited is a tenant's own limit (429 with Retry-After).
	Limited
	// Unavailable is a passing condition of the server: no leader, overload, a
	// full disk, an exhausted budget, an unknown outcome (503 with
	// Retry-After). A retry is always safe.
	Unavailable
)

// String prints the kind in lower case.
func (k ErrorKind) String() string {
	switch k {
	case Internal:
		return "internal"
	case Invalid:
		return "invalid"
	case TooLarge:
		return "too large"
	case Unsupported:
		return "unsupported"
	case NotFound:
		return "not found"
	case Limited:
		return "limited"
	case Unavailable:
		return "unavailable"
	}
	return fmt.Sprintf("ErrorKind(%d)", uint8(k))
}

// Error is an error with its kind. Its text names the input and the rule it broke.
type Error struct {
	Kind ErrorKind
	Err  error
	// RetryAfter is when a retry may succeed; zero leaves it to the edge.
	RetryAfter time.Duration
}

// Error returns the text of the wrapped error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of a kind; the rest is as in fmt.Errorf.
func Errorf(kind ErrorKind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's chain, and Internal
// where there is none.
func KindOf(err error) ErrorKind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}
