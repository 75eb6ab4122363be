package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// pinning is one attempt at pinning what a query needs.
type pinning struct {
	router *Router
	life   context.Context //nolint:containedctx // of the query, by which the views on other nodes live
	of     reading
	m      *metasvc.Map
	result *pinned
	wants  []*want
}

// want is one set of which the query needs a view.
type want struct {
	set *metasvc.ReplicaSet
	// into is where the view goes.
	into      *layer
	mode      pinMode
	deletions []wire.NumberedDeletion // of a sealed set
	nodes     *search

	// Of the round under way: whether a node has answered, and with what.
	answered bool
	layer    layer
	lag      lag
	// errs are why there is no view yet.
	errs []error
}

// pin takes all views, or none.
func (p *pinning) pin(ctx context.Context, mint, maxt int64) (*pinned, error) {
	r := p.router
	found, err := r.survey(ctx, p.of, mint, maxt)
	if err != nil {
		return nil, err
	}
	plan := slices.DeleteFunc(found.shards, func(s shardPlan) bool {
		return max(mint, s.oldest) >= s.base.ReadRange().End
	})
	p.m, p.result = found.m, &pinned{shards: make([]pinnedShard, len(plan))}
	p.result.remoteBytes.Store(r.remoteBytes)
	for i, s := range plan {
		p.result.shards[i].oldest = s.oldest
		p.want(s.base, &p.result.shards[i].base)
		if s.overlay != nil {
			p.want(s.overlay, &p.result.shards[i].overlay)
		}
	}
	r.metrics.setsQueried.Add(float64(len(p.wants)))
	p.takeAll(ctx)
	errs := make([]error, len(p.wants))
	for i, w := range p.wants {
		if w.layer == nil {
			errs[i] = w.err()
		}
	}
	if err := strongest(errs); err != nil {
		p.result.release()
		return nil, err
	}
	p.warn(found)
	return p.result, nil
}

// want notes a set that is needed, and who may have it.
func (p *pinning) want(set *metasvc.ReplicaSet, into *layer) {
	r := p.router
	w := &want{set: set, into: into, mode: pinConfirmed}
	switch {
	case set.State == metasvc.ReplicaSetSealed:
		w.deletions = p.m.DeletionsOf(set.ID)
		w.mode = pinSealed
		if set.Base != 0 || len(w.deletions) > 0 {
			// A replica that is still open shows neither what lay under an
			// overlay, which the file has too, nor what was deleted since.
			w.mode = pinFile
		}
	case p.of.consistency == quorate.ConsistencyStale:
		w.mode = pinStale
	}
	switch {
	case r.peers == nil:
		w.nodes = &search{waiting: []quorate.NodeID{r.self}}
	case w.mode == pinConfirmed:
		w.nodes = r.searchLeader(set, r.leaderFromHere(set.ID))
	default:
		w.nodes = r.searchNearest(p.m, set)
	}
	p.wants = append(p.wants, w)
}

// deletionsFor returns those of a tenant: another node needs no more of them.
func deletionsFor(all []wire.NumberedDeletion, tenant quorate.TenantID) []wire.NumberedDeletion {
	others := func(d wire.NumberedDeletion) bool { return d.Deletion.Tenant != tenant }
	if !slices.ContainsFunc(all, others) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), others)
}

// leaderFromHere returns the node that leads a set as far as its replica here
// knows; zero without one that runs: a replica that has failed goes on naming the
// leader of its last moment.
func (r *Router) leaderFromHere(set quorate.ReplicaSetID) (none quorate.NodeID) {
	replica, err := r.replicas.Get(set)
	switch {
	case err != nil:
		return none
	case replica.Sealed() != nil:
		return r.self
	}
	if _, leads := replica.Group().Leadership(); leads {
		return r.self
	}
	if s := replica.Group().Status(); s.State == raftset.StateFollower {
		return s.Leader.Node
	}
	return none
}

// modeAt returns what the view on a node must be like.
func (w *want) modeAt(node quorate.NodeID) pinMode {
	member, _ := w.set.MemberOn(node)
	return w.modeOf(member.Replica)
}

// modeOf returns what the view of a replica must be like: one that is still open
// is as good as the file of a sealed set only if it has reported the samples that
// the set was sealed with.
func (w *want) modeOf(replica quorate.ReplicaID) pinMode {
	if w.mode != pinSealed {
		return w.mode
	}
	for _, report := range w.set.Reports {
		if report.Replica == replica && report.Index == w.set.Sealed.Index && report.Checksum == w.set.Sealed.Checksum {
			return pinSealed
		}
	}
	return pinFile
}

// takeAll asks for the views in rounds: in each, every node that has something
// to be asked is asked once, all of them at the same time.
func (p *pinning) takeAll(ctx context.Context) {
	for p.round(ctx) && ctx.Err() == nil {
		continue
	}
}

// round asks a further node for each view that there is none of yet, and tells
// whether there was one to ask.
func (p *pinning) round(ctx context.Context) (asked bool) {
	elsewhere := make(map[quorate.NodeID][]*want)
	var all sync.WaitGroup
	for _, w := range p.wants {
		if w.layer != nil {
			continue
		}
		node, ok := w.nodes.next()
		switch {
		case !ok:
			continue
		case node == p.router.self:
			all.Go(func() { p.pinHere(ctx, w) })
		default:
			elsewhere[node] = append(elsewhere[node], w)
			w.answered = false
		}
		asked = true
	}
	for node, wants := range elsewhere {
		all.Go(func() { p.pinAt(ctx, node, wants) })
	}
	all.Wait()
	return asked
}

// pinHere takes the view of the replica on this node.
func (p *pinning) pinHere(ctx context.Context, w *want) {
	r := p.router
	replica, err := r.replicas.Get(w.set.ID)
	if err == nil {
		var view View
		var behind lag
		if view, behind, err = replica.pin(ctx, w.modeOf(replica.id()), w.deletions); err == nil {
			w.take(localLayer{view}, behind)
			return
		}
	}
	if r.peers != nil && !isRetriable(err) && quorate.KindOf(err) == quorate.Unavailable {
		err = retriable(err) // what is broken here may be well elsewhere
	}
	w.fail(err)
}

// take notes a view.
func (w *want) take(l layer, behind lag) {
	w.answered, w.layer, w.lag = true, l, behind
	*w.into = l
}

// fail notes why a node has given no view. If it said who leads, that one is
// asked next.
func (w *want) fail(err error) {
	w.answered, w.layer, *w.into = true, nil, nil
	w.errs = append(w.errs, err)
	if leader := leaderIn(err); w.mode == pinConfirmed && leader != (quorate.NodeID{}) {
		w.nodes.prefer(leader)
	}
}

// err is why there is no view: it is retriable if for one node it is.
func (w *want) err() error {
	err := errors.Join(w.errs...)
	if len(w.errs) == 1 {
		err = w.errs[0]
	}
	return fmt.Errorf("read shard %d of %v: %w", w.set.Shard, w.set.Bounds.Range, err)
}

// view takes a view of one set as a default read would: at its leader while it is
// open, wherever its file is when it is sealed.
func (r *Router) view(ctx context.Context, m *metasvc.Map, set *metasvc.ReplicaSet, tenant quorate.TenantID) (*pinned, error) {
	p := &pinning{router: r, life: ctx, of: reading{tenant: tenant}, m: m, result: &pinned{shards: make([]pinnedShard, 1)}}
	p.result.remoteBytes.Store(r.remoteBytes)
	p.want(set, &p.result.shards[0].base)
	p.takeAll(ctx)
	if w := p.wants[0]; w.layer == nil {
		return nil, w.err()
	}
	return p.result, nil
}
