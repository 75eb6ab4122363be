package metasvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate"
)

func TestWatchWaitsForTheNextEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := openMachine(t)
		leader := newFakeLeader(machine)
		got := make(chan Batch)
		go func() {
			watch := machine.Watch(1)
			for range 2 {
				batch, err := watch.Next(t.Context())
				if err != nil {
					t.Error(err)
				}
				got <- batch
			}
		}()
		synctest.Wait()
		select {
		case b := <-got:
			t.Fatalf("a watch of nothing got %+v", b)
		default:
		}
		leader.must(t, bootstrap())
		if b := <-got; b.To != 2 || len(b.Changes) != 2 {
			t.Fatalf("the first entry came as %+v", b)
		}
		leader.must(t, bootstrap()) // changes nothing, but moves the index on
		if b := <-got; b.To != 3 || len(b.Changes) != 0 {
			t.Fatalf("the second entry came as %+v", b)
		}
	})
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := openMachine(t)
		failed := make(chan error)
		ctx, cancel := context.WithCancel(t.Context())
		for _, c := range []context.Context{ctx, t.Context()} {
			go func() {
				_, err := machine.Watch(1).Next(c)
				failed <- err
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Fatalf("a cancelled watch ended with %v", err)
		}
		if err := machine.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Fatalf("a watch of a closed state machine ended with %v", err)
		}
	})
}

// tenantIDs lists a batch's tenants, removed ones negative.
func tenantIDs(b Batch) (ids []int64) {
	for _, c := range b.Changes {
		if c.Kind == KindTenant && c.Removed {
			ids = append(ids, -int64(c.ID))
		} else if c.Kind == KindTenant {
			ids = append(ids, int64(c.ID))
		}
	}
	return ids
}

func TestWatchThatOverflowedGetsWhatChangedAndNoMore(t *testing.T) {
	machine := NewStateMachine(StateMachineConfig{ChangeLog: 4})
	if err := machine.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	leader := newFakeLeader(machine)
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()})
	for i := range 3 {
		leader.must(t, CreateTenant{Name: fmt.Sprint("old", i), Policy: 1})
	}
	behind := machine.Watch(machine.AppliedIndex())
	near := machine.Watch(machine.AppliedIndex())
	leader.must(t, DeleteTenant{Tenant: 2})
	for i := range 6 {
		leader.must(t, CreateTenant{Name: fmt.Sprint("new", i), Policy: 1})
		if i == 3 {
			near.at = machine.AppliedIndex()
		}
	}
	if len(machine.log.changes) > 4 {
		t.Fatalf("the change log of 4 holds %d", len(machine.log.changes))
	}
	b, err := behind.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tenantIDs(b), []int64{-2, 4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) || len(b.Changes) != len(want) || b.Whole {
		t.Fatalf("the watch that overflowed got tenants %v in %+v, want %v alone", got, b, want)
	}
	b, err = near.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tenantIDs(b), []int64{8, 9}; !slices.Equal(got, want) {
		t.Fatalf("the watch that kept up got tenants %v, want %v", got, want)
	}
}

func TestChangesOfOneEntryStayTogether(t *testing.T) {
	machine := NewStateMachine(StateMachineConfig{ChangeLog: 3})
	if err := machine.Open(t.Context(), nil, 1); err != nil {
		t.Fatal(err)
	}
	leader := newFakeLeader(machine)
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()})
	for entry := range 3 {
		var commands [][]byte
		for k := range 2 {
			commands = append(commands, EncodeCommand(CreateTenant{Name: fmt.Sprintf("t%d-%d", entry, k), Policy: 1}))
		}
		if _, err := leader.applyLocked(commands...); err != nil {
			t.Fatal(err)
		}
	}
	// Three changes would be the last entry and half of the one before.
	if n := len(machine.log.changes); n != 2 || machine.log.from != 5 {
		t.Fatalf("the log of 3 holds %d changes after index %d, want the 2 of the last entry after 5", n, machine.log.from)
	}
	changes, complete := machine.log.after(4)
	if complete || changes != nil {
		t.Fatalf("the log claims to know what came after 4: %v", changes)
	}
}

func TestWatchGoesOnAcrossARestore(t *testing.T) {
	ahead := openMachine(t)
	leader := newFakeLeader(ahead)
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()}, CreateTenant{Name: "a", Policy: 1})

	lagging := openMachine(t)
	if _, err := lagging.ApplyBatch(leader.entries); err != nil {
		t.Fatal(err)
	}
	watch := lagging.Watch(lagging.AppliedIndex())
	leader.must(t, DeleteTenant{Tenant: 1}, CreateTenant{Name: "b", Policy: 1})
	if err := lagging.Restore(t.Context(), persist(t, ahead), 20); err != nil {
		t.Fatal(err)
	}
	b, err := watch.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tenantIDs(b), []int64{-1, 2}; !slices.Equal(got, want) || len(b.Changes) != 2 || b.To != 20 {
		t.Fatalf("across a restore the watch got %+v, want tenants %v to index 20", b, want)
	}
}

func TestTombstonesAreBoundedAndThenAllIsSentWhole(t *testing.T) {
	machine := openMachine(t)
	leader := newFakeLeader(machine)
	leader.must(t, bootstrap(), CreatePolicy{Policy: DefaultPolicy()}, CreateTenant{Name: "keep", Policy: 1})
	from := machine.AppliedIndex()
	next := quorate.TenantID(2)
	for range maxTombstones + 10 {
		leader.must(t, CreateTenant{Name: "gone", Policy: 1}, DeleteTenant{Tenant: next})
		next++
	}
	if n := len(machine.state.tombstones); n != maxTombstones {
		t.Fatalf("%d tombstones are kept, want %d", n, maxTombstones)
	}
	if err := machine.snapshot().check(); err != nil {
		t.Fatal(err)
	}
	b, err := machine.Watch(from).Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !b.Whole || !slices.Contains(tenantIDs(b), 1) {
		t.Fatalf("a watch older than the tombstones got a batch whole=%t, without the tenant that was there before", b.Whole)
	}
	reopened := openMachine(t)
	if err := reopened.Open(t.Context(), persist(t, machine), machine.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
}
