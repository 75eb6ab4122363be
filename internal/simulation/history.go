package simulation

import (
	"fmt"
	"sort"
	"sync"

	"github.com/quorate/quorate"
)

// Sample is one float sample of a series.
type Sample struct {
	T int64 // ms
	V float64
}

// Violation is a promise that a read, or the end of a run, shows to be broken.
type Violation struct {
	Kind ViolationKind
	// Series and T (ms) say of which sample, Where who showed it or did not.
	Series int
	T      int64
	Where  string
	Detail string
}

// ViolationKind says which promise.
type ViolationKind string

// The promises of a history.
const (
	// Lost is a sample that was acknowledged before the read began, and is not
	// in it.
	Lost ViolationKind = "an acknowledged sample is missing"
	// Vanished is a sample whose outcome the writer does not know, that an
	// earlier read has shown and this one does not.
	Vanished ViolationKind = "a sample that was read before is missing"
	// WentBack is Lost or Vanished of the series' newest sample: the newest
	// timestamp is older than one that was there before the read began.
	WentBack ViolationKind = "the newest timestamp has gone back"
	// Invented is a sample that was never sent, or not with this value.
	Invented ViolationKind = "a sample was never sent"
	// Refused is a sample that every node refused that it was offered to,
	// saying that it takes no effect.
	Refused ViolationKind = "a sample that was refused is there"
	// Misplaced is a sample in a set whose bucket its time is not of.
	Misplaced ViolationKind = "a sample is in a set that must not have it"
	// Twice is a timestamp that is there twice, or out of order.
	Twice ViolationKind = "a timestamp is there twice"
)

// Error says everything.
func (v *Violation) Error() string {
	return fmt.Sprintf("%s: series %d, time %d, at %s: %s", v.Kind, v.Series, v.T, v.Where, v.Detail)
}

// History checks reads against the writes around them while both go on. The
// order in which its methods return is the order of events that it judges by: a
// client tells of a write before it sends it and after it has an answer, and of
// a read before it confirms it and after it has read everything. It is safe for
// concurrent use.
//
// What it promises to find, per series and bucket: samples that a read must show and does
// not, because their acknowledgment or an earlier read that showed them was
// over before it began; samples that no read may show, because nobody sent them,
// nobody took them or they are of another bucket; and timestamps that are there twice. A write of unknown
// outcome may take effect at any time, once, or never.
type History struct {
	mu sync.Mutex
	// now counts events.
	now    uint64
	series map[int]*seriesHistory
}

// seriesHistory has what was sent to one series, by rising time.
type seriesHistory struct {
	sent []sentSample
}

type sentSample struct {
	Sample
	// due is the event from which on every read that begins has to show the
	// sample; 0 is never.
	due uint64
	// acked tells why: it was acknowledged, rather than read.
	acked bool
	// refused tells that no node has taken it.
	refused bool
}

// NewHistory returns an empty history.
func NewHistory() *History { return &History{series: make(map[int]*seriesHistory)} }

// Send tells that a sample is about to be sent. A series is sent each timestamp
// once, and in order.
func (h *History) Send(series int, s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	of := h.series[series]
	if of == nil {
		of = &seriesHistory{}
		h.series[series] = of
	}
	of.sent = append(of.sent, sentSample{Sample: s})
}

// Acknowledge tells that a sample that was sent has been acknowledged.
func (h *History) Acknowledge(series int, t int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	s := h.find(series, t)
	s.acked = true
	if s.due == 0 {
		s.due = h.now
	}
}

// Refuse tells that a sample was sent, and nobody took it.
func (h *History) Refuse(series int, t int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	h.find(series, t).refused = true
}

func (h *History) find(series int, t int64) *sentSample {
	sent := h.series[series].sent
	i := sort.Search(len(sent), func(i int) bool { return sent[i].T >= t })
	return &sent[i]
}

// BeginRead tells that a read is about to begin, and returns what EndRead needs
// to know of that.
func (h *History) BeginRead() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	return h.now
}

// EndRead tells what a read of the set of a bucket has shown of one series,
// where, and returns what is wrong with it: nil, or a *Violation.
func (h *History) EndRead(began uint64, where string, bucket quorate.TimeRange, series int, samples []Sample) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	of := h.series[series]
	if of == nil {
		of = &seriesHistory{}
	}
	of = of.in(bucket)
	shown, violation := of.show(bucket, samples)
	if violation == nil {
		violation = of.missing(began, samples, shown)
	}
	if violation != nil {
		violation.Series, violation.Where = series, where
		violation.Detail += fmt.Sprintf(" (the read began at event %d of %d and shows %d samples of %d sent)", began, h.now, len(samples), len(of.sent))
		return violation
	}
	for _, i := range shown {
		if s := &of.sent[i]; s.due == 0 {
			s.due = h.now
		}
	}
	return nil
}

// in is the history of a bucket alone.
func (of *seriesHistory) in(bucket quorate.TimeRange) *seriesHistory {
	from := sort.Search(len(of.sent), func(i int) bool { return of.sent[i].T >= bucket.Start })
	to := sort.Search(len(of.sent), func(i int) bool { return of.sent[i].T >= bucket.End })
	return &seriesHistory{sent: of.sent[from:to]}
}

// show finds the places of the samples that a read of a bucket shows, and what it
// should not show.
func (of *seriesHistory) show(bucket quorate.TimeRange, samples []Sample) (shown []int, _ *Violation) {
	shown = make([]int, 0, len(samples))
	place := 0
	for i, s := range samples {
		if i > 0 && s.T <= samples[i-1].T {
			return nil, &Violation{Kind: Twice, T: s.T, Detail: fmt.Sprintf("it comes after %d", samples[i-1].T)}
		}
		for place < len(of.sent) && of.sent[place].T < s.T {
			place++
		}
		switch {
		case !bucket.Contains(s.T):
			return nil, &Violation{Kind: Misplaced, T: s.T, Detail: fmt.Sprintf("it has the value %v, and the bucket is %s", s.V, bucket)}
		case place == len(of.sent) || of.sent[place].T != s.T:
			return nil, &Violation{Kind: Invented, T: s.T, Detail: fmt.Sprintf("it has the value %v", s.V)}
		case of.sent[place].V != s.V:
			return nil, &Violation{Kind: Invented, T: s.T, Detail: fmt.Sprintf("it has the value %v, sent was %v", s.V, of.sent[place].V)}
		case of.sent[place].refused:
			return nil, &Violation{Kind: Refused, T: s.T}
		}
		shown = append(shown, place)
	}
	return shown, nil
}

// missing finds what a read has to show and does not: the newest such sample.
func (of *seriesHistory) missing(began uint64, samples []Sample, shown []int) *Violation {
	next := len(shown) - 1
	for i := len(of.sent) - 1; i >= 0; i-- {
		if next >= 0 && shown[next] == i {
			next--
			continue
		}
		s := &of.sent[i]
		if s.due == 0 || s.due >= began {
			continue
		}
		v := &Violation{Kind: Vanished, T: s.T, Detail: fmt.Sprintf("it is due since event %d", s.due)}
		if s.acked {
			v.Kind = Lost
		}
		if len(samples) == 0 {
			v.Detail += "; nothing is there"
		} else if newest := samples[len(samples)-1].T; newest < s.T {
			v.Kind = WentBack
			v.Detail += fmt.Sprintf("; the newest is %d", newest)
		}
		return v
	}
	return nil
}

// Series returns the number of series that anything was sent to. They are
// numbered from 0.
func (h *History) Series() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.series)
}
