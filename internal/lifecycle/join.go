package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

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
			m.noteUnplanted(r, err)
			return err
		}
	}
	return m.open(ctx, set, r)
}

// noteUnplanted notes why a newcomer has no directories. While that lasts, a
// heartbeat calls it broken, so that the change may be given up.
func (m *Manager) noteUnplanted(r *replica, reason error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r.broken = reason
	if r.brokenSince.IsZero() {
		r.brokenSince = time.Now()
	}
}

// plant makes a newcomer's directories, from the newest seed whose files can be
// had: one member's may be damaged.
func (m *Manager) plant(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	offers, err := m.askSeeds(ctx, set)
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range offers {
		err := m.stage(ctx, r, o.info.Payload, append([]quorate.NodeID{o.from}, m.others(set, o.from)...))
		if err == nil {
			return m.plantSeed(ctx, r, o)
		}
		errs = append(errs, fmt.Errorf("by the seed of node %v: %w", o.from, err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("join set %v: %w", r.set, errors.Join(errs...))
}

// plantSeed makes the directories from a seed whose files are here.
func (m *Manager) plantSeed(ctx context.Context, r *replica, s offer) error {
	if err := m.cfg.moment(momentSeeded); err != nil {
		return err
	}
	if err := m.cfg.Host.Join(ctx, r.set, r.id, s.bytes); err != nil {
		return err
	}
	m.logger.Info("replica joins its set", "set", r.set, "replica", r.id, "index", s.info.Index, "seed_from", s.from)
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
