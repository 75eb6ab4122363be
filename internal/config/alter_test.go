package config

import (
	"strings"
	"testing"
	"time"
)

func TestBucketsAreAlteredByTheFilesRules(t *testing.T) {
	b := Default().Buckets
	got, err := b.Altered(map[string]string{"retention": "90d", "replicas": "3"})
	want := b
	want.Retention, want.Replicas = 90*24*time.Hour, 3
	if got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for name, tc := range map[string]struct {
		changes map[string]string
		says    string
	}{
		"no setting":        {map[string]string{"color": "red"}, "not a setting"},
		"no duration":       {map[string]string{"retention": "long"}, "not a duration"},
		"outside its rule":  {map[string]string{"replicas": "10"}, "outside 1 to 9"},
		"against another's": {map[string]string{"retention": "1h"}, "buckets.span is more than buckets.retention"},
	} {
		if _, err := b.Altered(tc.changes); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want it to say %q", name, err, tc.says)
		}
	}
}
