package config

import (
	"fmt"
	"maps"
	"slices"
)

// Altered returns the buckets' settings with some of them changed: by the name
// that they have in the section ("retention"), as the file would have them. The
// file's rules hold, each setting's own and those between two. The error names the
// setting and its rule.
func (b Buckets) Altered(changes map[string]string) (Buckets, error) {
	settings := bucketSettings(&b)
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		at := slices.IndexFunc(settings, func(s setting) bool { return s.path == "buckets."+name })
		if at < 0 {
			return Buckets{}, fmt.Errorf("buckets.%s is not a setting", name)
		}
		if err := settings[at].value.set(changes[name]); err != nil {
			return Buckets{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, rule := range bucketRules(&b) {
		if !rule.holds {
			return Buckets{}, fmt.Errorf("%s is more than %s", rule.lower, rule.upper)
		}
	}
	return b, nil
}

// orderRule is that one setting is at most another.
type orderRule struct {
	lower, upper string
	holds        bool
}

func bucketRules(b *Buckets) []orderRule {
	return []orderRule{
		{"buckets.late_window", "buckets.span", b.LateWindow <= b.Span},
		{"buckets.future_bound", "buckets.span", b.FutureBound <= b.Span},
		{"buckets.span", "buckets.retention", b.Span <= b.Retention},
	}
}
