package lifecycle

import (
	"context"
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// Between the steps of a join.
const (
	momentSeeded moment = "the newcomer has the seed's files"
	momentJoined moment = "the newcomer's directory stands"
)

// joins tells whether a replica is about to become a member of its set.
func joins(set *metasvc.ReplicaSet, r *replica) bool {
	if set.HasMember(r.id) {
		return false
	}
	change, ok := set.Changing()
	return ok && change.Add.Replica == r.id
}

// join makes a newcomer of a set that runs on its log: it takes the manifest of
// a member, with the files, and opens. From there on it is the leader's to feed
// and to make a member. Whatever a crash leaves, the replica opens only when all
// files that its manifest names are here.
func (m *Manager) join(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	there, err := m.cfg.Host.Exists(r.set, r.id)
	if err != nil {
		return err
	}
	if !there {
		if err := m.plant(ctx, set, r); err != nil {
			return err
		}
	}
	return m.open(ctx, set, r)
}

// plant makes a newcomer's directories.
func (m *Manager) plant(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	seed, info, from, err := m.askSeed(ctx, set)
	if err != nil {
		return err
	}
	if err := m.stage(ctx, r, info.Payload, append([]quorate.NodeID{from}, m.others(set, from)...)); err != nil {
		return fmt.Errorf("join set %v: %w", r.set, err)
	}
	if err := m.cfg.moment(momentSeeded); err != nil {
		return err
	}
	if err := m.cfg.Host.Join(ctx, r.set, r.id, seed); err != nil {
		return err
	}
	m.logger.Info("replica joins its set", "set", r.set, "replica", r.id, "index", info.Index, "seed_from", from)
	return m.cfg.moment(momentJoined)
}

// reportJoined tells the map that a newcomer of a sealed set has the file, which
// makes it a member.
func (m *Manager) reportJoined(ctx context.Context, _ *metasvc.ReplicaSet, r *replica) error {
	if err := m.cfg.Client.ReportJoined(ctx, r.set, r.id); err != nil {
		return fmt.Errorf("report that replica %v has joined set %v: %w", r.id, r.set, err)
	}
	return nil
}

// fetchSealed gets a sealed set's canonical file from another node: for a
// newcomer, for a replica that has not built it or has other samples, and for
// one whose file is damaged or gone. When no node gives it, what can be built
// from the replica's own samples is, next.
func (m *Manager) fetchSealed(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	cfg, file := m.shardConfig(r), tsdbshard.SealedFileInfo(set.Sealed.File)
	err := m.fetchFile(ctx, cfg, file, m.others(set))
	if err == nil {
		err = tsdbshard.AdoptFile(cfg, file)
	}
	if ctx.Err() != nil {
		return err
	}
	m.mu.Lock()
	r.lacksFile, r.fetchFailed = false, err != nil
	if err == nil {
		r.received = set.Sealed.File.Hash
	}
	m.mu.Unlock()
	return err
}
