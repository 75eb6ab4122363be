package lifecycle

import (
	"context"
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"

	"github.com/quorate/quorate/tsdbshard"
)

// firstScrub is how long after its start a node begins to read.
const firstScrub = time.Minute

// ScrubLimits say how the files of samples are read again, to find what has
// rotted while another replica has it still.
type ScrubLimits struct {
	// BytesPerSecond bounds what is read; 0 reads nothing.
	BytesPerSecond int64
	// Every is how long after the start of a pass the next one starts. Default: 7
	// days.
	Every time.Duration
}

// scrub reads all files of samples, pass after pass, until the context ends.
func (m *Manager) scrub(ctx context.Context) {
	if m.cfg.Scrub.BytesPerSecond <= 0 {
		return
	}
	pace := newThrottle(m.cfg.Scrub.BytesPerSecond)
	// A start has its replicas to open first.
	timer := time.NewTimer(min(m.cfg.Scrub.Every, firstScrub))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		began := time.Now()
		m.scrubPass(ctx, pace)
		if ctx.Err() != nil {
			return
		}
		m.metrics.scrubPasses.Inc()
		m.logger.Debug("all files of samples were read and compared with their hashes", "took", time.Since(began))
		timer.Reset(m.cfg.Scrub.Every - time.Since(began))
	}
}

// scrubPass reads the files of all replicas, in no order, so that a node which is
// restarted often comes round to all of them as well.
func (m *Manager) scrubPass(ctx context.Context, pace *rate.Limiter) {
	type open struct {
		r      *replica
		sealed *tsdbshard.Sealed
		shard  *tsdbshard.Shard
	}
	var all []open
	m.mu.Lock()
	for _, r := range m.replicas {
		all = append(all, open{r: r})
	}
	m.mu.Unlock()
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	wait := func(ctx context.Context, bytes int) error {
		m.metrics.scrubbedBytes.Add(float64(bytes))
		return pace.WaitN(ctx, bytes)
	}
	for i, o := range all {
		m.mu.Lock()
		o.sealed, o.shard = o.r.sealed, o.r.shard
		known := o.r.damage != nil
		m.mu.Unlock()
		if known {
			continue
		}
		damage, err := m.scrubReplica(ctx, o.r, o.sealed, o.shard, wait)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			m.logger.Warn("files of a replica could not be read for a check", "set", o.r.set, "err", err)
		case damage != nil && m.stillOpen(o.r, o.sealed, o.shard):
			m.noteDamage(o.r, damage)
		}
		m.metrics.scrubDone.Set(float64(i+1) / float64(len(all)))
	}
}

// stillOpen tells whether a replica is served from what it was: its files may have
// gone since.
func (m *Manager) stillOpen(r *replica, sealed *tsdbshard.Sealed, shard *tsdbshard.Shard) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return r.isOpenLocked() && r.sealed == sealed && r.shard == shard
}
