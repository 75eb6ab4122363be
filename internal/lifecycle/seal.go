package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// Between the steps of a seal.
const (
	momentSealed      moment = "the seal stands in the log"
	momentChecksummed moment = "the checksum is known"
	momentBuilt       moment = "the canonical file is built"
	momentReported    moment = "the map has the report"
)

// reportOf returns what a replica has reported of its set's seal, nil when it
// has not.
func reportOf(set *metasvc.ReplicaSet, replica quorate.ReplicaID) *metasvc.SealReport {
	for i := range set.Reports {
		if set.Reports[i].Replica == replica {
			return &set.Reports[i]
		}
	}
	return nil
}

// sealDueLocked tells whether a replica has something to do for the seal of its
// set: seal the log, examine its own samples, build the file, or report.
func (m *Manager) sealDueLocked(set *metasvc.ReplicaSet, r *replica) bool {
	intent := set.Sealing()
	if intent == nil || intent.ID < r.seal.intent { // PROTOCOL 4
		return false
	}
	own := reportOf(set, r.id)
	if own == nil || own.Intent != uint64(intent.ID) {
		return true
	}
	// The leader owes the file, also one that took over since.
	for _, report := range set.Reports {
		if report.File != nil {
			return false
		}
	}
	_, leads := r.group.Leadership()
	return leads
}

// seal carries the intent to seal out (PROTOCOL 14): the leader puts it into the
// set's log; every replica computes the checksum over its own samples; the
// leader builds the canonical file as well; and the map is told. Raft runs on.
func (m *Manager) seal(ctx context.Context, set *metasvc.ReplicaSet, r *replica) error {
	intent := set.Sealing()
	m.mu.Lock()
	if r.seal.intent != intent.ID {
		r.seal = sealing{intent: intent.ID}
	}
	m.mu.Unlock()
	start := time.Now()
	info, err := sealLog(ctx, intent, r)
	if err != nil {
		return err
	}
	if err := m.cfg.moment(momentSealed); err != nil {
		return err
	}
	_, leads := r.group.Leadership()
	if err := m.examine(ctx, set, r, r.shard, info, leads); err != nil {
		return fmt.Errorf("examine the samples of set %v: %w", r.set, err)
	}
	report := metasvc.SealReport{Intent: info.Seal.Intent, Index: info.Index, Checksum: r.seal.checksum, File: r.seal.built}
	if err := m.cfg.Client.ReportSeal(ctx, r.set, r.id, report); err != nil {
		return fmt.Errorf("report the seal of set %v: %w", r.set, err)
	}
	took := time.Since(start)
	m.metrics.sealSeconds.Observe(took.Seconds())
	m.logger.Info("seal reported", "set", r.set, "replica", r.id, "index", info.Index,
		"checksum", fmt.Sprintf("%x", r.seal.checksum[:8]), "built", r.seal.built != nil, "took", took)
	return m.cfg.moment(momentReported)
}

// sealLog returns where the seal stands in the set's log; the leader puts it
// there first, if nobody has.
func sealLog(ctx context.Context, intent *metasvc.Intent, r *replica) (tsdbshard.SealInfo, error) {
	if info, sealed := r.shard.Sealed(); sealed {
		return info, nil
	}
	if _, leads := r.group.Leadership(); !leads {
		return tsdbshard.SealInfo{}, errNotYet
	}
	command, err := wire.DecodeSeal(intent.Payload)
	if err != nil {
		return tsdbshard.SealInfo{}, fmt.Errorf("intent %d: %w", intent.ID, err)
	}
	command.Intent = uint64(intent.ID)
	_, err = r.group.Propose(ctx, wire.KindSeal, command.Append(nil))
	var elsewhere *raftset.NotLeaderError
	if errors.As(err, &elsewhere) {
		return tsdbshard.SealInfo{}, errNotYet
	}
	if err != nil {
		return tsdbshard.SealInfo{}, fmt.Errorf("seal set %v: %w", r.set, err)
	}
	info, sealed := r.shard.Sealed()
	if !sealed {
		return info, fmt.Errorf("seal set %v: its shard has applied the seal and is not sealed", r.set)
	}
	return info, nil
}

// examine computes what the report is to say, as far as this process has not
// yet. No sample comes after the seal, so a view taken now shows what it seals.
func (m *Manager) examine(ctx context.Context, set *metasvc.ReplicaSet, r *replica, shard *tsdbshard.Shard, info tsdbshard.SealInfo, build bool) error {
	if r.seal.known && (r.seal.built != nil || !build) {
		return nil
	}
	src, release, err := m.sources(set, shard, info)
	if err != nil {
		return err
	}
	defer release()
	if !r.seal.known {
		checksum, err := tsdbshard.Checksum(ctx, src)
		if err != nil {
			return err
		}
		m.mu.Lock()
		r.seal.checksum, r.seal.known = checksum, true
		m.mu.Unlock()
		if err := m.cfg.moment(momentChecksummed); err != nil {
			return err
		}
	}
	if !build {
		return nil
	}
	file, err := tsdbshard.WriteCanonical(ctx, src, m.shardConfig(r), info.Index)
	if err != nil {
		return err
	}
	m.mu.Lock()
	r.seal.built = &file
	m.mu.Unlock()
	return m.cfg.moment(momentBuilt)
}

// sources pins the samples that a seal is about: the replica's own, and those of
// the base that an overlay lies over. The caller releases them.
func (m *Manager) sources(set *metasvc.ReplicaSet, shard *tsdbshard.Shard, info tsdbshard.SealInfo) (tsdbshard.Sources, func(), error) {
	src := tsdbshard.Sources{Seal: info.Seal}
	unpin := func() {}
	if set.Base != 0 {
		if src.Base, unpin = m.pinBase(set.Base); src.Base == nil {
			// It is opened before or after this set, in no order.
			return src, nil, fmt.Errorf("base %v of set %v is not open here: %w", set.Base, set.ID, errNotYet)
		}
	}
	view, err := shard.View()
	if err != nil {
		unpin()
		return src, nil, err
	}
	src.View = view
	return src, func() { view.Close(); unpin() }, nil
}

// pinBase returns a sealed set's file and keeps it open until unpin is called;
// nil when it is not open.
func (m *Manager) pinBase(set setID) (sealed *tsdbshard.Sealed, unpin func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	base := m.replicas[set]
	if base == nil || base.sealed == nil {
		return nil, func() {}
	}
	base.users++
	return base.sealed, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		base.users--
	}
}
