package remote

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// labelPair is one label, aliasing the request's body.
type labelPair struct{ name, value []byte }

// CanonicalLabels implements wire.LabelSource. It is safe for concurrent use.
func (q *request) CanonicalLabels(dst []byte, i int) ([]byte, error) {
	out, err := q.canonicalLabels(dst, q.messages[i])
	if err != nil {
		q.refusals.addLabels(i, q.seriesRows(i))
		return dst, quorate.Errorf(quorate.Invalid, "series %s: %w", q.describe(q.messages[i]), err)
	}
	return out, nil
}

// canonicalLabels parses, judges and encodes the labels of the series whose
// message lies at m. Its error is the rule they break.
func (q *request) canonicalLabels(dst []byte, m span) ([]byte, error) {
	var scratch [32]labelPair
	pairs, err := q.labelPairs(scratch[:0], m)
	if err != nil {
		return dst, err
	}
	if q.limits.SortUnsorted {
		slices.SortStableFunc(pairs, func(a, b labelPair) int { return bytes.Compare(a.name, b.name) })
	}
	if err := checkLabels(pairs, q.limits); err != nil {
		return dst, err
	}
	for _, p := range pairs {
		if len(p.value) > 0 { // an empty value stands for no such label
			dst = wire.AppendLabel(dst, p.name, p.value)
		}
	}
	return dst, nil
}

func (q *request) labelPairs(pairs []labelPair, m span) ([]labelPair, error) {
	if q.version == version2 {
		pairs, rule, ok := q.pairsV2(pairs, q.message(m))
		if !ok || rule != "" { // the walk refuses such series before anyone can ask
			return pairs, fmt.Errorf("its labels do not decode %s", rule)
		}
		return pairs, nil
	}
	pairs, ok := pairsV1(pairs, q.message(m))
	if !ok {
		return pairs, errMalformedLabels
	}
	return pairs, nil
}

// checkLabels checks a series' labels, in the order in which they came.
func checkLabels(pairs []labelPair, limits LabelLimits) error {
	if len(pairs) > limits.MaxLabels {
		return fmt.Errorf("it has %d labels, over the limit of %d", len(pairs), limits.MaxLabels)
	}
	named := false
	for i, p := range pairs {
		if err := checkPair(p, limits); err != nil {
			return err
		}
		if i > 0 {
			switch c := bytes.Compare(pairs[i-1].name, p.name); {
			case c == 0:
				return fmt.Errorf("label %s is there twice", quoteShort(p.name))
			case c > 0:
				if duplicate, found := findDuplicate(pairs); found {
					return fmt.Errorf("label %s is there twice", quoteShort(duplicate))
				}
				return fmt.Errorf("labels are not sorted by name: %s comes after %s", quoteShort(p.name), quoteShort(pairs[i-1].name))
			}
		}
		named = named || string(p.name) == metricName && len(p.value) > 0
	}
	if !named {
		if len(pairs) == 0 {
			return errNoLabels
		}
		return errNoName
	}
	return nil
}

func checkPair(p labelPair, limits LabelLimits) error {
	switch {
	case len(p.name) == 0:
		return fmt.Errorf("the label with value %s has an empty name", quoteShort(p.value))
	case len(p.name) > limits.MaxNameBytes:
		return fmt.Errorf("the name of label %s has %d bytes, over the limit of %d", quoteShort(p.name), len(p.name), limits.MaxNameBytes)
	case len(p.value) > limits.MaxValueBytes:
		return fmt.Errorf("the value of label %s has %d bytes, over the limit of %d", quoteShort(p.name), len(p.value), limits.MaxValueBytes)
	case !utf8.Valid(p.name):
		return fmt.Errorf("the name of label %s is not valid UTF-8", quoteShort(p.name))
	case !utf8.Valid(p.value):
		return fmt.Errorf("the value of label %s is not valid UTF-8: %s", quoteShort(p.name), quoteShort(p.value))
	}
	return nil
}

// findDuplicate looks for a name that is there twice among unsorted labels, so
// that the error names the worse fault.
func findDuplicate(pairs []labelPair) (name []byte, found bool) {
	seen := make(map[string]struct{}, len(pairs))
	for _, p := range pairs {
		if _, again := seen[string(p.name)]; again {
			return p.name, true
		}
		seen[string(p.name)] = struct{}{}
	}
	return nil, false
}

const (
	// describeBytes bounds how a series is named in an error.
	describeBytes = 256
	// quoteBytes bounds a name or value inside an error.
	quoteBytes = 64
)

// describe names a series for a person as far as its message can be read, as
// {__name__="up", job="node"}: escaped, and of bounded length.
func (q *request) describe(m span) string {
	var pairs []labelPair
	if q.version == version2 {
		pairs, _, _ = q.pairsV2(nil, q.message(m))
	} else {
		pairs, _ = pairsV1(nil, q.message(m))
	}
	out := []byte{'{'}
	for i, p := range pairs {
		if i > 0 {
			out = append(out, ", "...)
		}
		if len(out) > describeBytes {
			out = append(out, "..."...)
			break
		}
		if plainName(p.name) {
			out = append(out, p.name...)
		} else {
			out = append(out, quoteShort(p.name)...)
		}
		out = append(append(out, '='), quoteShort(p.value)...)
	}
	return string(append(out, '}'))
}

// plainName tells whether a label's name needs no quotes.
func plainName(name []byte) bool {
	for _, c := range name {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return 0 < len(name) && len(name) <= quoteBytes
}

// quoteShort quotes text of a request for an error: escaped, and cut.
func quoteShort(text []byte) string {
	if len(text) <= quoteBytes {
		return strconv.Quote(string(text))
	}
	return strconv.Quote(string(text[:quoteBytes])) + "..."
}
