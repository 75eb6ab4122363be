package router

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
)

// DeleteSeries deletes a tenant's samples of the closed range [mint, maxt] (ms)
// of the series that match all matchers. When it returns nil, no read on any
// node shows them any more (PROTOCOL 19); samples that are written later are
// not concerned. It may be called again with the same arguments. The error is
// of kind Invalid for a range or matchers that break a rule, NotFound for an
// unknown tenant, else Unavailable: some of the samples may be deleted then.
func (r *Router) DeleteSeries(ctx context.Context, tenant quorate.TenantID, mint, maxt int64, matchers ...*labels.Matcher) error {
	d := &deletion{
		router:  r,
		command: wire.Deletion{Tenant: tenant, MinTime: mint, MaxTime: maxt, Matchers: matchers},
		inLog:   make(map[quorate.ReplicaSetID]bool),
	}
	if err := d.command.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.writeTimeout)
	defer cancel()
	err := retry(ctx, d.attempt)
	r.metrics.deletions.WithLabelValues(resultOf(err)).Inc()
	if err != nil {
		return fmt.Errorf("delete series: %w", err)
	}
	return nil
}

// deletion is one DeleteSeries under way.
type deletion struct {
	router  *Router
	command wire.Deletion
	// inLog are the sets whose logs have the deletion. It does not tell of
	// what lies under an overlay: see targets.
	inLog map[quorate.ReplicaSetID]bool
}

// attempt deletes under the newest map: first from open sets, each by an entry
// of its log, then from all sealed ones, by one record of the metadata.
func (d *deletion) attempt(ctx context.Context) error {
	r := d.router
	// An overlay that is new to this node's map has samples to be deleted too.
	if err := r.meta.ConfirmMap(ctx); err != nil {
		return retriable(err)
	}
	tenant, m, err := r.meta.TenantMap(ctx, d.command.Tenant)
	if err != nil {
		return err
	}
	open, sealed, err := d.targets(&tenant, m)
	if err != nil {
		return err
	}
	if err := d.deleteInLogs(ctx, open); err != nil {
		return err
	}
	sealed = slices.DeleteFunc(sealed, func(s *metasvc.ReplicaSet) bool { return !d.concerns(ctx, m, s) })
	if len(sealed) == 0 {
		return nil
	}
	ids := make([]quorate.ReplicaSetID, len(sealed))
	spanned := sealed[0].ReadRange()
	for i, s := range sealed {
		ids[i] = s.ID
		spanned.Start, spanned.End = min(spanned.Start, s.ReadRange().Start), max(spanned.End, s.ReadRange().End)
	}
	_, err = r.meta.Delete(ctx, d.within(spanned), ids)
	if err == nil || overBudget(err) || quorate.KindOf(err) != quorate.Unavailable && quorate.KindOf(err) != quorate.NotFound {
		return err
	}
	return retriable(err) // a set was sealed, replaced or dropped meanwhile
}

// targets lists the sets that may have what is to be deleted and do not have
// the deletion yet. A set of which the log has it is done, but only as long as
// it is open: sealed since, it may be the merge of an overlay and its base, and
// the base had the deletion elsewhere or not at all.
func (d *deletion) targets(tenant *metasvc.Tenant, m *metasvc.Map) (open, sealed []*metasvc.ReplicaSet, err error) {
	// The map was confirmed in this attempt: sets that are forming have nothing.
	shards, _ := d.router.shardsFor(tenant, m, d.command.MinTime, d.command.MaxTime)
	for _, shard := range shards {
		for _, set := range []*metasvc.ReplicaSet{shard.base, shard.overlay} {
			if err := undisputed(set); err != nil {
				return nil, nil, err
			}
			switch {
			case set == nil:
			case set.State == metasvc.ReplicaSetSealed:
				sealed = append(sealed, set)
			case !d.inLog[set.ID]:
				open = append(open, set)
			}
		}
	}
	return open, sealed, nil
}

// deleteInLogs has the deletion committed and applied by open sets, in
// parallel. A set that turns out to be sealed makes it retriable.
func (d *deletion) deleteInLogs(ctx context.Context, sets []*metasvc.ReplicaSet) error {
	errs := make([]error, len(sets))
	var wait sync.WaitGroup
	for i, set := range sets {
		wait.Go(func() { errs[i] = d.deleteInLog(ctx, set) })
	}
	wait.Wait()
	for i, set := range sets {
		if errs[i] == nil {
			d.inLog[set.ID] = true
		}
	}
	return strongest(errs)
}

func (d *deletion) deleteInLog(ctx context.Context, set *metasvc.ReplicaSet) error {
	command := d.within(set.ReadRange())
	result, err := d.router.delete(ctx, set.ID, command.Append(nil))
	if err != nil {
		return err
	}
	if result.Sealed {
		return retriable(quorate.Errorf(quorate.Unavailable, "set %v is being sealed", set.ID))
	}
	return nil
}

// concerns tells whether a sealed set has series of the tenant that match. It
// is what keeps a deletion without a range from burdening the reads of all
// history. A set that cannot be read may have anything.
func (d *deletion) concerns(ctx context.Context, m *metasvc.Map, set *metasvc.ReplicaSet) bool {
	view, err := d.router.view(ctx, m, set, d.command.Tenant)
	if err != nil {
		return true
	}
	defer view.release()
	some, err := view.shards[0].base.anySeries(ctx, d.command.Tenant, d.command.Matchers)
	return some || err != nil
}

// within returns the deletion cut to a set's time, in which all its samples
// lie: Prometheus' clients delete from the year -292 million on.
func (d *deletion) within(r quorate.TimeRange) wire.Deletion {
	cut := d.command
	cut.MinTime, cut.MaxTime = max(cut.MinTime, r.Start), min(cut.MaxTime, r.End-1)
	return cut
}
