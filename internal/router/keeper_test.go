package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// keeper does on a rig what the metadata controller and the node's lifecycle
// do on a node, whenever the map changes: it forms new sets, makes what is
// pending effective, seals what somebody asks to be sealed, swaps sealed sets
// to their files, and takes dropped ones away.
type keeper struct {
	rig *rig
	// hold keeps it from the step of that name while it is set.
	mu   sync.Mutex
	hold map[string]bool

	sealed    map[quorate.ReplicaSetID]*tsdbshard.Sealed
	effective map[uint64]bool // deletions
}

// keep starts a keeper, which ends with the test.
func (r *rig) keep(t testing.TB) *keeper {
	t.Helper()
	k := &keeper{rig: r, hold: map[string]bool{}, sealed: map[quorate.ReplicaSetID]*tsdbshard.Sealed{}, effective: map[uint64]bool{}}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		var seen *metasvc.Map
		for {
			m, err := r.client.AwaitMap(ctx, seen)
			if err != nil {
				return
			}
			seen = m
			if err := k.step(ctx, m); err != nil && ctx.Err() == nil {
				t.Errorf("keeper: %v", err)
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
		for _, s := range k.sealed {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return k
}

// stop keeps the keeper from a step, or lets it go on with the next map.
func (k *keeper) stop(step string, stopped bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hold[step] = stopped
}

func (k *keeper) held(step string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hold[step]
}

// do commits a command; what it refuses shows again in the next map.
func (k *keeper) do(ctx context.Context, c metasvc.Command) {
	_, _ = k.rig.leader.Propose(ctx, metasvc.EncodeCommand(c))
}

func (k *keeper) step(ctx context.Context, m *metasvc.Map) error {
	for _, set := range m.Sets() {
		for _, d := range m.DeletionsOf(set.ID) {
			if !k.effective[d.ID] && !k.held("effect") {
				k.effective[d.ID] = true
				k.do(ctx, metasvc.EffectDelete{Deletion: d.ID})
			}
		}
		if err := k.keepSet(ctx, m, set); err != nil {
			return fmt.Errorf("set %v, %v: %w", set.ID, set.State, err)
		}
	}
	return nil
}

func (k *keeper) keepSet(ctx context.Context, m *metasvc.Map, set *metasvc.ReplicaSet) error {
	home := k.rig.home(set)
	replica, err := home.Get(set.ID)
	here := err == nil
	switch {
	case set.State == metasvc.ReplicaSetForming:
		if !here && set.Base != 0 && !k.held("form") { // the rig forms first sets itself
			return k.rig.form(ctx, set)
		}
	case set.State == metasvc.ReplicaSetDropping:
		if !here {
			return nil
		}
		home.Remove(set.ID)
		if err := k.sealed[set.ID].Close(); err != nil {
			return err
		}
		delete(k.sealed, set.ID)
		return k.rig.client.ReportDropped(ctx, set.ID, set.Members[0].Replica)
	case set.State == metasvc.ReplicaSetSealed && here && replica.Sealed() == nil:
		return k.swap(set, replica)
	case set.Pending && (set.State == metasvc.ReplicaSetOpen || k.sealed[m.Set(set.ID).ID] != nil):
		if !k.held("effect") {
			k.do(ctx, metasvc.EffectSet{Set: set.ID})
		}
	case set.Sealing() != nil && len(set.Reports) == 0:
		if !k.held("seal") {
			return k.seal(ctx, set, replica)
		}
	case set.Sealing() != nil:
		if !k.held("judge") {
			k.do(ctx, metasvc.JudgeSeal{Set: set.ID, Intent: set.Sealing().ID, Term: 1, Live: []quorate.ReplicaID{set.Members[0].Replica}})
		}
	case set.SealAsked && set.State == metasvc.ReplicaSetOpen:
		seal := wire.Seal{Horizons: k.horizons()}
		if set.Base != 0 {
			seal.Deletions = m.DeletionsOf(set.Base)
		}
		k.do(ctx, metasvc.BeginIntent{Set: set.ID, Kind: metasvc.IntentSeal, Term: 1, Payload: seal.Append(nil)})
	}
	return nil
}

// horizons are those of tenants with a retention of their own.
func (k *keeper) horizons() (list []wire.Horizon) {
	for _, t := range k.rig.client.Tenants() {
		if t.Retention > 0 {
			list = append(list, wire.Horizon{Tenant: t.ID, Oldest: now.UnixMilli() - t.Retention.Milliseconds()})
		}
	}
	return list
}

// seal executes the intent and reports what it made of it.
func (k *keeper) seal(ctx context.Context, set *metasvc.ReplicaSet, replica *Replica) error {
	command, err := wire.DecodeSeal(set.Sealing().Payload)
	if err != nil {
		return err
	}
	command.Intent = uint64(set.Sealing().ID)
	err = retry(ctx, func(ctx context.Context) error { // a new set may have no leader yet
		_, err := propose[*tsdbshard.SealResult](ctx, replica, wire.KindSeal, command.Append(nil))
		return err
	})
	if err != nil {
		return err
	}
	info, ok := replica.Shard().Sealed()
	if !ok {
		return errors.New("its shard is not sealed by a seal")
	}
	view, err := replica.Shard().View()
	if err != nil {
		return err
	}
	defer view.Close()
	src := tsdbshard.Sources{View: view, Base: k.sealed[set.Base], Seal: info.Seal}
	checksum, err := tsdbshard.Checksum(ctx, src)
	if err != nil {
		return err
	}
	file, err := tsdbshard.WriteCanonical(ctx, src, k.rig.shardConfig(set.ID), info.Index)
	if err != nil {
		return err
	}
	return k.rig.client.ReportSeal(ctx, set.ID, set.Members[0].Replica, metasvc.SealReport{
		Intent: info.Seal.Intent, Index: info.Index, Checksum: checksum, File: &file,
	})
}

// swap puts the sealed file in the open replica's place.
func (k *keeper) swap(set *metasvc.ReplicaSet, open *Replica) error {
	if k.held("swap") {
		return nil
	}
	sealed, err := tsdbshard.OpenSealed(k.rig.shardConfig(set.ID), set.Sealed.Index, set.Bounds.Range, set.Sealed.File)
	if err != nil {
		return err
	}
	k.sealed[set.ID] = sealed
	k.rig.home(set).Add(NewSealedReplica(set.ID, sealed))
	return open.Group().Close()
}

// seal has the shards of the bucket of a time sealed, with whatever lies over
// them, and waits until they are.
func (r *rig) seal(t testing.TB, ts int64) {
	t.Helper()
	r.askForSeal(t, ts)
	testwait.For(t, "the bucket to be sealed", func() bool {
		b := r.client.Map().Bucket(1, ts)
		return !slices.ContainsFunc(b.Sets, func(s *metasvc.ReplicaSet) bool {
			replica, err := r.home(s).Get(s.ID)
			return s.State != metasvc.ReplicaSetSealed || b.Overlays[s.Shard] != nil || err != nil || replica.Sealed() == nil
		})
	})
}

func (r *rig) askForSeal(t testing.TB, ts int64) {
	t.Helper()
	b := r.client.Map().Bucket(1, ts)
	var sets []quorate.ReplicaSetID
	for shard, set := range b.Sets {
		if over := b.Overlays[shard]; over != nil {
			set = over
		}
		sets = append(sets, set.ID)
	}
	if err := r.client.RequestSeal(t.Context(), sets); err != nil {
		t.Fatal(err)
	}
}
