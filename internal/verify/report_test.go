package verify

import (
	"strings"
	"testing"
)

func TestWhatIsInLogsAloneIsTold(t *testing.T) {
	r := Report{Replicas: []Replica{
		{State: StateOpen, Unflushed: 7}, {State: StateOpen, LastEntry: 4}, {State: StateOpen, Unflushed: 3}, {State: StateMetadata, Unflushed: 90},
	}}
	r.sum()
	if text := r.InLogs(); r.LogEntries != 10 || !strings.HasPrefix(text, "10 entries in the logs of 2 replicas") {
		t.Errorf("%d entries are told as %q", r.LogEntries, text)
	}
	r = Report{Replicas: []Replica{{State: StateOpen, Index: 4, LastEntry: 4}}}
	r.sum()
	if text := r.InLogs(); text != "" {
		t.Errorf("of no entries it says %q", text)
	}
}
