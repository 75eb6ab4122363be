package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// errDiverged is wrapped when members that have applied the same log hold
// different things.
var errDiverged = errors.New("the members have diverged")

// errApart tells that the members of a set have the same log, and may have applied
// the same: a manifest's index may be that of a change of members, which a replica
// counts as applied when it was opened there, and otherwise not.
var errApart = errors.New("the members stand at different entries")

// verdict is what one member holds of a set in the end.
type verdict struct {
	sum     [32]byte
	samples uint64
}

// converge waits until all members of each healed set have applied the same, and
// compares what they show: with each other, and with the history. Then all of
// them are killed, and everything has to be there again, from the files.
func (s *simulation) converge(ctx context.Context, report *Report) error {
	// A leader's append may still hang: then its entry comes later, or its process
	// goes.
	if !pause(ctx, longestHang+time.Second) {
		return ctx.Err()
	}
	first, err := s.agree(ctx, report)
	if err != nil {
		return err
	}
	// Where samples lie must make no difference.
	for i, n := range s.members() {
		for _, set := range s.allSets() {
			r := n.replica(set)
			if r == nil || (i+set.number)%2 == 0 {
				continue
			}
			if err := r.group.Flush(ctx); err != nil {
				return fmt.Errorf("the last flush of set %d at %s: %w", set.id, n, err)
			}
		}
	}
	s.kill("the power fails", s.members()...)
	for _, n := range s.members() {
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	again, err := s.agree(ctx, report)
	if err != nil {
		return fmt.Errorf("after a power failure: %w", err)
	}
	for i, v := range first {
		if w := again[i]; v != w {
			return fmt.Errorf("%w: they agreed on %d samples in the %d. set with checksum %x, and after a power failure on %d with %x", errDiverged, v.samples, i+1, v.sum, w.samples, w.sum)
		}
		report.Samples += v.samples
	}
	return nil
}

// agree returns what all members hold, by set.
func (s *simulation) agree(ctx context.Context, report *Report) (all []verdict, _ error) {
	ctx, cancel := context.WithTimeout(ctx, convergence)
	defer cancel()
	report.Sets, report.Terms, report.Entries = 0, 0, 0
	for _, set := range s.allSets() {
		v, at, err := s.agreeOn(ctx, set)
		if err != nil {
			return nil, fmt.Errorf("set %d: %w", set.id, err)
		}
		all = append(all, v)
		report.Sets++
		report.Terms += at.Term
		report.Entries += at.LastIndex
	}
	return all, nil
}

func (s *simulation) agreeOn(ctx context.Context, set *replicaSet) (agreed verdict, at raftset.Status, err error) {
	for {
		at, err = s.level(ctx, set)
		if err == nil {
			break
		}
		if errors.Is(err, errApart) {
			s.nudge(ctx, set)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return agreed, at, fmt.Errorf("%v after everything healed: %w", convergence, err)
		}
	}
	for i, n := range s.members() {
		v, err := s.examine(ctx, n, set)
		switch {
		case err != nil:
			return agreed, at, err
		case i == 0:
			agreed = v
		case v != agreed:
			return agreed, at, fmt.Errorf("%w: at index %d, %s holds %d samples with checksum %x, %s %d with %x",
				errDiverged, at.LastIndex, s.members()[0], agreed.samples, agreed.sum, n, v.samples, v.sum)
		}
	}
	return agreed, at, nil
}

// level returns where all members of a set stand, or why not all have applied the
// same yet.
func (s *simulation) level(ctx context.Context, set *replicaSet) (want raftset.Status, _ error) {
	leader := s.leading(set)
	if leader == nil {
		return want, errors.New("nobody leads")
	}
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := leader.group.ConfirmRead(calling); err != nil {
		return want, err
	}
	want = leader.group.Status()
	if want.CommitIndex != want.LastIndex {
		return want, fmt.Errorf("entries up to %d of %d are committed", want.CommitIndex, want.LastIndex)
	}
	if c := leader.group.Configuration(); len(c.Voters) != founders || len(c.Learners) != 0 {
		return want, fmt.Errorf("the members are %v and %v", c.Voters, c.Learners)
	}
	for _, n := range s.members() {
		r := n.replica(set)
		if r == nil {
			return want, fmt.Errorf("%s has not opened it", n)
		}
		got := r.group.Status()
		if got.State == raftset.StateStopped || got.CommitIndex != want.CommitIndex {
			return want, fmt.Errorf("%s is %s and knows that %d of %d entries are committed", n, got.State, got.CommitIndex, want.CommitIndex)
		}
		if got.AppliedIndex != want.AppliedIndex {
			return want, fmt.Errorf("%w: %s has applied %d, %s %d", errApart, n, got.AppliedIndex, leader.node, want.AppliedIndex)
		}
	}
	return want, nil
}

// nudge has a set apply an entry of which it takes nothing: when all have applied
// that, they have applied the same.
func (s *simulation) nudge(ctx context.Context, set *replicaSet) {
	leader := s.leading(set)
	if leader == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	p := &part{set: set}
	p.batch.Reset(testTenant, set.bounds.Version+1)
	result, err := leader.group.Propose(ctx, wire.KindWrite, p.batch.Append(nil))
	if err != nil {
		return // it is tried again
	}
	s.count("nudged sets", 1)
	s.must(p.checkRefused(result))
}

// examine checks everything that a node shows of a set.
func (s *simulation) examine(ctx context.Context, n *node, set *replicaSet) (v verdict, err error) {
	r := n.replica(set)
	if r == nil {
		return v, fmt.Errorf("%s is down in the end", n)
	}
	if b := r.shard.Bounds(); b != set.bounds {
		return v, fmt.Errorf("%s has the bounds %v, and they are %v", n, b, set.bounds)
	}
	began := s.history.BeginRead()
	view, err := r.shard.View()
	if err != nil {
		return v, fmt.Errorf("in the end at %s: %w", n, err)
	}
	defer view.Close()
	if v.sum, v.samples, err = tsdbshard.ChecksumView(ctx, view); err != nil {
		return v, fmt.Errorf("in the end at %s: %w", n, err)
	}
	return v, s.check(ctx, began, r, view, allSeries(s.cfg.series()))
}
