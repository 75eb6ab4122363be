package remote

import "sync"

// refusalReason is why a row was refused here: the label of a metric.
type refusalReason uint8

const (
	refusedEmptySeries refusalReason = iota
	refusedReference
	refusedLabels
	refusedHistogram
	refusedExemplar
	refusedMetadata
	refusalReasons // their number
)

// String prints the reason as the metric labels it.
func (r refusalReason) String() string {
	switch r {
	case refusedEmptySeries:
		return "empty_series"
	case refusedReference:
		return "bad_reference"
	case refusedLabels:
		return "invalid_labels"
	case refusedHistogram:
		return "invalid_histogram"
	case refusedExemplar:
		return "invalid_exemplar"
	case refusedMetadata:
		return "invalid_metadata"
	default:
		return "unknown"
	}
}

// refusals are what was left out of a request for its shape. An empty series
// counts as one row. It is safe for concurrent use, as the Appender may ask
// for labels from several goroutines.
type refusals struct {
	mu sync.Mutex
	// rows counts refused rows by reason.
	rows [refusalReasons]int
	// first names the first thing that was refused and the rule it breaks.
	first string
	// labels holds the series whose labels were refused, so that asking twice
	// does not count twice.
	labels map[int]struct{}
}

func (r *refusals) reset() {
	r.rows = [refusalReasons]int{}
	r.first = ""
	clear(r.labels)
}

// add records n refused rows; describe is called for the first only.
func (r *refusals) add(reason refusalReason, n int, describe func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows[reason] += n
	if r.first == "" {
		r.first = describe()
	}
}

// addLabels records that series i, of n rows, was refused for its labels. The
// text is not kept: the Appender's error carries it.
func (r *refusals) addLabels(i, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.labels[i]; again {
		return
	}
	if r.labels == nil {
		r.labels = make(map[int]struct{})
	}
	r.labels[i] = struct{}{}
	r.rows[refusedLabels] += n
}

// parsed counts what was refused before the Appender was called.
func (r *refusals) parsed() int {
	n := 0
	for reason, rows := range r.rows {
		if refusalReason(reason) != refusedLabels {
			n += rows
		}
	}
	return n
}
