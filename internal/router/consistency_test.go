package router

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// lateLease is a Meta whose map lease begins to hold just when a map was taken.
type lateLease struct {
	Meta
	taken     bool
	confirmed int
}

func (m *lateLease) MapCurrent() bool { return m.taken }

func (m *lateLease) ConfirmMap(ctx context.Context) error {
	m.confirmed++
	return m.Meta.ConfirmMap(ctx)
}

func (m *lateLease) TenantMap(ctx context.Context, id quorate.TenantID) (metasvc.Tenant, *metasvc.Map, error) {
	t, taken, err := m.Meta.TenantMap(ctx, id)
	m.taken = true
	return t, taken, err
}

// What counts is whether the map was current when it was taken, not whether one
// is when the views are there.
func TestALeaseThatBeginsAfterTheMapWasTakenSaysNothingOfIt(t *testing.T) {
	r := newRig(t)
	r.mustWrite(t, manySeries(4, at(-10))...)
	own := r.meta
	for consistency, want := range map[quorate.Consistency]struct {
		warned    bool
		confirmed int
	}{
		quorate.ConsistencyDefault: {true, 0},
		quorate.ConsistencyStrong:  {false, 1},
	} {
		meta := &lateLease{Meta: own}
		r.meta = meta
		q, err := r.Reads(consistency).Querier(t.Context(), r.tenant, at(-20), at(0))
		if err != nil {
			t.Fatal(err)
		}
		set := q.Select(t.Context(), true, nil, named("m"))
		for set.Next() {
			continue
		}
		if _, warned := set.Warnings()[ErrMapUnconfirmed.Error()]; warned != want.warned || meta.confirmed != want.confirmed {
			t.Errorf("%v: warned is %v and the map was confirmed %d times, want %+v", consistency, warned, meta.confirmed, want)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Who has lost the metadata writes to the open sets that it knows, and reads them
// with a warning.
func TestProtocol9WithoutTheMetadataANodeGoesOnWithTheSetsThatItKnows(t *testing.T) {
	r := newRig(t)
	r.mustWrite(t, manySeries(4, at(-10))...) // by which the leaders confirm their bounds
	r.meta = leaderlessMeta{r.meta}
	r.mustWrite(t, manySeries(4, at(-5))...)
	q, err := r.Querier(t.Context(), r.tenant, at(-20), at(0))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	set := q.Select(t.Context(), true, nil, named("m"))
	lines := linesOf(t, set)
	for i, line := range lines {
		if want := fmt.Sprintf(`{__name__="m", i="%04d"}: -10=%[1]d -5=%[1]d`, i); line != want {
			t.Errorf("read %q, want %q", line, want)
		}
	}
	if _, warned := set.Warnings()[ErrMapUnconfirmed.Error()]; len(lines) != 4 || !warned {
		t.Errorf("%d series are read, want 4 with a warning; it is there: %v", len(lines), warned)
	}
	r.queryTimeout = 50 * time.Millisecond
	if _, err := r.Reads(quorate.ConsistencyStrong).Querier(t.Context(), r.tenant, at(-20), at(0)); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("a strong read got %v, want Unavailable", err)
	}
}
