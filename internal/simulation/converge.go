package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// errDiverged is wrapped when members that have applied the same log hold
// different things.
var errDiverged = errors.New("the members have diverged")

// verdict is what one member holds in the end.
type verdict struct {
	sum     [32]byte
	samples uint64
}

// converge waits until all members of a healed set have applied the same, and
// compares what they show: with each other, and with the history. Then all of
// them are killed, and everything has to be there again, from the files.
func (s *simulation) converge(ctx context.Context, report *Report) error {
	first, err := s.agree(ctx, report)
	if err != nil {
		return err
	}
	// Where samples lie must make no difference.
	for i, n := range s.members() {
		p := n.process()
		if p == nil || i%2 == 0 {
			continue
		}
		if err := p.group.Flush(ctx); err != nil {
			return fmt.Errorf("the last flush at %s: %w", n, err)
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
	if first != again {
		return fmt.Errorf("%w: they agreed on %d samples with checksum %x, and after a power failure on %d with %x", errDiverged, first.samples, first.sum, again.samples, again.sum)
	}
	report.Samples = again.samples
	return nil
}

// agree returns what all members hold.
func (s *simulation) agree(ctx context.Context, report *Report) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, convergence)
	defer cancel()
	for {
		err := s.level(ctx, report)
		if err == nil {
			break
		}
		if !pause(ctx, 100*time.Millisecond) {
			return verdict{}, fmt.Errorf("%v after everything healed: %w", convergence, err)
		}
	}
	var agreed verdict
	for i, n := range s.members() {
		v, err := s.examine(ctx, n)
		switch {
		case err != nil:
			return verdict{}, err
		case i == 0:
			agreed = v
		case v != agreed:
			return verdict{}, fmt.Errorf("%w: at index %d, %s holds %d samples with checksum %x, %s %d with %x",
				errDiverged, report.Index, s.members()[0], agreed.samples, agreed.sum, n, v.samples, v.sum)
		}
	}
	return agreed, nil
}

// level tells why not all members have applied the same yet.
func (s *simulation) level(ctx context.Context, report *Report) error {
	leader := s.leading()
	if leader == nil {
		return errors.New("nobody leads")
	}
	calling, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := leader.group.ConfirmRead(calling); err != nil {
		return err
	}
	want := leader.group.Status()
	if want.CommitIndex != want.LastIndex {
		return fmt.Errorf("entries up to %d of %d are committed", want.CommitIndex, want.LastIndex)
	}
	if c := leader.group.Configuration(); len(c.Voters) != founders || len(c.Learners) != 0 {
		return fmt.Errorf("the members are %v and %v", c.Voters, c.Learners)
	}
	for _, n := range s.members() {
		p := n.process()
		if p == nil {
			return fmt.Errorf("%s is down", n)
		}
		if got := p.group.Status(); got.AppliedIndex != want.AppliedIndex || got.State == raftset.StateStopped {
			return fmt.Errorf("%s is %s and has applied %d of %d", n, got.State, got.AppliedIndex, want.AppliedIndex)
		}
	}
	report.Term, report.Index = want.Term, want.LastIndex
	return nil
}

// examine checks everything that a node shows.
func (s *simulation) examine(ctx context.Context, n *node) (v verdict, err error) {
	p := n.process()
	if p == nil {
		return v, fmt.Errorf("%s is down in the end", n)
	}
	began := s.history.BeginRead()
	view, err := p.shard.View()
	if err != nil {
		return v, fmt.Errorf("in the end at %s: %w", n, err)
	}
	defer view.Close()
	if v.sum, v.samples, err = tsdbshard.ChecksumView(ctx, view); err != nil {
		return v, fmt.Errorf("in the end at %s: %w", n, err)
	}
	return v, s.check(ctx, began, n, view, allSeries(s.cfg.series()))
}
