package remote

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate/internal/tenancy"
)

// Config says how a Handler judges requests. The zero value of every field
// stands for the default that its sentence names.
type Config struct {
	// Tenancy says how requests name their tenant.
	Tenancy tenancy.Config
	// Limits bound the label sets of series.
	Limits LabelLimits
	// MaxWireBytes bounds a request's body as sent; 0 means 32 MiB. More is a 413.
	MaxWireBytes int64
	// MaxDecodedBytes bounds the size to which a body says it decompresses;
	// 0 means 64 MiB. More is a 413.
	MaxDecodedBytes int64
	// MaxRows bounds how many symbols, series, samples, histograms, exemplars
	// and metadata entries one request may hold in all; 0 means 2 Mi. More is
	// a 413. An empty protobuf message takes 2 bytes and its row 20 times
	// that, so a limit on bytes alone would not bound memory.
	MaxRows int
	// MaxHistogramBytes bounds the message of one native histogram; 0 means
	// 256 KiB. A larger one is refused with a 400.
	MaxHistogramBytes int
	// MaxInflightBytes bounds the memory of all requests at work, counted as
	// bytes received plus twice the bytes they decompress to; 0 means 512 MiB.
	// A request that does not fit is a 503.
	MaxInflightBytes int64
	// MaxConcurrent bounds the requests that are parsed and appended at one
	// time; 0 means 512. A request over it is a 503.
	MaxConcurrent int
	// BodyTimeout bounds how long a body may take to arrive; 0 means 30 s.
	BodyTimeout time.Duration
	// AppendTimeout bounds how long a request may wait for its rows to be
	// stored; 0 means 25 s, so that the answer comes before Prometheus' own
	// default of 30 s runs out.
	AppendTimeout time.Duration
	// RetryAfter is what a 429 or 503 tells the sender to wait when the error
	// has no time of its own; 0 means 1 s.
	RetryAfter time.Duration
	// Logger takes rate-limited debug lines about refused requests, and
	// errors for internal faults; nil discards them.
	Logger *slog.Logger
	// Registerer takes the metrics; nil registers them nowhere.
	Registerer prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// LabelLimits bound a series' label set. A series over one of them is refused
// with a 400; the others of its request are written. Zero means the default.
type LabelLimits struct {
	// MaxLabels bounds the number of labels; 0 means 128.
	MaxLabels int
	// MaxNameBytes bounds a label's name; 0 means 1,024 bytes.
	MaxNameBytes int
	// MaxValueBytes bounds a label's value; 0 means 8,192 bytes.
	MaxValueBytes int
	// SortUnsorted sorts labels that do not come in order of name, where the
	// default is to refuse the series, as the specification lets receivers.
	SortUnsorted bool
}

// Validate checks that no setting is negative.
func (c Config) Validate() error {
	var errs []error
	for _, s := range []struct {
		name  string
		value int64
	}{
		{"Limits.MaxLabels", int64(c.Limits.MaxLabels)},
		{"Limits.MaxNameBytes", int64(c.Limits.MaxNameBytes)},
		{"Limits.MaxValueBytes", int64(c.Limits.MaxValueBytes)},
		{"MaxWireBytes", c.MaxWireBytes},
		{"MaxDecodedBytes", c.MaxDecodedBytes},
		{"MaxRows", int64(c.MaxRows)},
		{"MaxHistogramBytes", int64(c.MaxHistogramBytes)},
		{"MaxInflightBytes", c.MaxInflightBytes},
		{"MaxConcurrent", int64(c.MaxConcurrent)},
		{"BodyTimeout", int64(c.BodyTimeout)},
		{"AppendTimeout", int64(c.AppendTimeout)},
		{"RetryAfter", int64(c.RetryAfter)},
	} {
		if s.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d: it cannot be negative", s.name, s.value))
		}
	}
	// Offsets into a decoded body are kept in 32 bits.
	if c.MaxDecodedBytes >= 1<<32 {
		errs = append(errs, fmt.Errorf("MaxDecodedBytes is %d: it must be below 4 GiB", c.MaxDecodedBytes))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	setDefault(&c.Limits.MaxLabels, 128)
	setDefault(&c.Limits.MaxNameBytes, 1024)
	setDefault(&c.Limits.MaxValueBytes, 8192)
	setDefault(&c.MaxWireBytes, 32<<20)
	setDefault(&c.MaxDecodedBytes, 64<<20)
	setDefault(&c.MaxRows, 2<<20)
	setDefault(&c.MaxHistogramBytes, 256<<10)
	setDefault(&c.MaxInflightBytes, 512<<20)
	setDefault(&c.MaxConcurrent, 512)
	setDefault(&c.BodyTimeout, 30*time.Second)
	setDefault(&c.AppendTimeout, 25*time.Second)
	setDefault(&c.RetryAfter, time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

func setDefault[T comparable](setting *T, value T) {
	var zero T
	if *setting == zero {
		*setting = value
	}
}
