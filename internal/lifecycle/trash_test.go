package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// clockAt is a wall clock that tests move.
type clockAt struct{ at time.Time }

func (c *clockAt) now() time.Time { return c.at }

// trashFor makes a trash with a clock and a file system that has so much space.
func trashFor(t *testing.T, limits TrashLimits, clock *clockAt, free *int64) *trash {
	t.Helper()
	tr, err := openTrash(Config{DataDir: t.TempDir(), Trash: limits.withDefaults(), Now: clock.now, Logger: slog.New(slog.DiscardHandler)}, newMetrics())
	if err != nil {
		t.Fatal(err)
	}
	tr.free = func(string) (int64, error) { return *free, nil }
	return tr
}

func (t *trash) names(tb testing.TB) (names []string) {
	tb.Helper()
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestTheTrashKeepsEntriesForTheirTime(t *testing.T) {
	clock, free := &clockAt{time.UnixMilli(1_000_000)}, int64(1)
	tr := trashFor(t, TrashLimits{Keep: time.Hour}, clock, &free)
	for i := range 3 {
		entry, err := tr.newEntry(setID(i+1), 7)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(entry, "sets", "deep"), 0o700); err != nil {
			t.Fatal(err)
		}
		clock.at = clock.at.Add(20 * time.Minute)
	}
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{-time.Second, 3}, {time.Second, 2}, {20 * time.Minute, 1}, {time.Hour, 0}} {
		clock.at = time.UnixMilli(1_000_000).Add(time.Hour + tc.after)
		if err := tr.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if names := tr.names(t); len(names) != tc.want {
			t.Errorf("an hour and %v after the first entry the trash holds %v, want %d entries", tc.after, names, tc.want)
		}
	}
}

func TestTheTrashGivesSpaceBackAtOnceWhenItIsShort(t *testing.T) {
	clock, free := &clockAt{time.UnixMilli(1_000_000)}, int64(50)
	tr := trashFor(t, TrashLimits{Keep: time.Hour, MinFreeBytes: 100}, clock, &free)
	for i := range 4 {
		clock.at = clock.at.Add(time.Second)
		if _, err := tr.newEntry(setID(i+1), 7); err != nil {
			t.Fatal(err)
		}
	}
	tr.free = func(string) (int64, error) { free += 20; return free, nil } // each removal gives 20
	if err := tr.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	names := tr.names(t)
	if len(names) != 2 || !strings.Contains(names[0], "set-3-") || !strings.Contains(names[1], "set-4-") {
		t.Errorf("the trash holds %v, want the two youngest", names)
	}
	if got := testutil.ToFloat64(tr.metrics.removed.WithLabelValues("space")); got != 2 {
		t.Errorf("%v removals count as for space, want 2", got)
	}
}

func TestProtocol16TheTrashDeletesNothingThatItDoesNotKnow(t *testing.T) {
	clock, free := &clockAt{time.UnixMilli(1 << 40)}, int64(0)
	tr := trashFor(t, TrashLimits{Keep: time.Second, MinFreeBytes: 1}, clock, &free)
	strange := []string{"notes", "12-set-1", "x-set-1-2", "-5-set-1-2", "007-set-1-2", "5-set-1-2.0", "5-set-1-2x"}
	for _, name := range strange {
		if err := os.Mkdir(filepath.Join(tr.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(tr.dir, "5-set-1-2"), nil, 0o600); err != nil { // a file
		t.Fatal(err)
	}
	if err := tr.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := append(slices.Clone(strange), "5-set-1-2")
	slices.Sort(want)
	if got := tr.names(t); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

func TestEntriesOfOneMomentGetNamesOfTheirOwn(t *testing.T) {
	clock, free := &clockAt{time.UnixMilli(42)}, int64(1)
	tr := trashFor(t, TrashLimits{Keep: time.Hour}, clock, &free)
	for range 3 {
		if _, err := tr.newEntry(1, 2); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(tr.names(t)); got != "[42-set-1-2 42-set-1-2.1 42-set-1-2.2]" {
		t.Errorf("the entries are %s", got)
	}
	clock.at = clock.at.Add(time.Hour)
	if err := tr.sweep(t.Context()); err != nil || len(tr.names(t)) != 0 {
		t.Errorf("left are %v, %v; want none", tr.names(t), err)
	}
}

func TestATrashOnADiskThatCannotTellItsSpaceSaysSo(t *testing.T) {
	clock, free := &clockAt{time.UnixMilli(42)}, int64(1)
	tr := trashFor(t, TrashLimits{Keep: time.Hour}, clock, &free)
	if _, err := tr.newEntry(1, 2); err != nil {
		t.Fatal(err)
	}
	tr.free = func(string) (int64, error) { return 0, errDisk }
	if err := tr.sweep(t.Context()); !errors.Is(err, errDisk) {
		t.Errorf("got %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tr.sweep(ended); err != nil {
		t.Errorf("after its end: %v", err)
	}
}

func TestTheFileSystemTellsItsFreeSpace(t *testing.T) {
	free, err := freeBytes(t.TempDir())
	if err != nil || free <= 0 {
		t.Errorf("got %d, %v", free, err)
	}
}

func FuzzTrashName(f *testing.F) {
	for _, name := range []string{"42-set-1-2", "42-set-1-2.3", "-1-set-1-2", "42-set-01-2", "42-set-1-2.0", "9223372036854775808-set-1-2"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ms, ok := parseTrashName(name)
		if !ok {
			return
		}
		if ms < 0 || strings.ContainsAny(name, `/\ `) || !strings.HasPrefix(name, fmt.Sprintf("%d-set-", ms)) {
			t.Errorf("%q was taken for an entry of %d", name, ms)
		}
	})
}
