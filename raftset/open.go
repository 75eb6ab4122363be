package raftset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/wire"
)

// never is an interval for what the library shall not do by itself.
const never = 24 * time.Hour

// open opens a replica, and takes its directory out of service if that is what
// it is found to need.
func (h *Host) open(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, sm StateMachine) (*Group, error) {
	dir := replicaDir(h.cfg.Dir, set, replica)
	if err := checkQuarantine(dir); err != nil {
		return nil, err
	}
	o, err := h.openFiles(dir, set, replica)
	if err != nil {
		return nil, h.judge(dir, set, replica, err)
	}
	manifest := o.manifests.current()
	if err := sm.Open(ctx, manifest.payload, manifest.index); err != nil {
		return nil, errors.Join(fmt.Errorf("open the state machine at index %d: %w", manifest.index, err), o.log.Close())
	}
	g, err := h.start(ctx, o, sm)
	if err != nil {
		return nil, errors.Join(err, o.log.Close(), sm.Close())
	}
	return g, nil
}

// judge quarantines a replica whose directory is damaged. Other errors, of the
// disk or of a newer version's files, leave it as it is.
func (h *Host) judge(dir string, set quorate.ReplicaSetID, replica quorate.ReplicaID, err error) error {
	if !errors.Is(err, ErrDamaged) {
		return err
	}
	h.metrics.quarantined.Inc()
	h.cfg.Logger.Error("replica is quarantined", "set", uint64(set), "replica", uint64(replica), "dir", dir+quarantineSuffix, "err", err)
	return errors.Join(fmt.Errorf("%w: %w", ErrQuarantined, err), quarantine(dir, err))
}

// files are a replica's files, opened and found to agree.
type files struct {
	manifests *manifestStore
	votes     *voteStore
	low       *lowWater
	log       *checkedLog
	local     Member
	tail      tail
	trail     *trail
}

func (h *Host) openFiles(dir string, set quorate.ReplicaSetID, replica quorate.ReplicaID) (o *files, err error) {
	if err := durable.RemoveTemporary(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFormed
	} else if err != nil {
		return nil, err
	}
	if err := checkFormed(dir, set, replica); err != nil {
		return nil, err
	}
	o = &files{trail: newTrail(h.cfg.TrailingBytes)}
	if o.manifests, err = openManifestStore(filepath.Join(dir, manifestFile), h.cfg.publish); err != nil {
		return nil, err
	}
	m := o.manifests.current()
	if m.set != set || m.replica != replica {
		return nil, damaged("the manifest is that of set %d, replica %d", m.set, m.replica)
	}
	if o.local, err = h.identify(m); err != nil {
		return nil, err
	}
	if o.votes, err = openVoteStore(filepath.Join(dir, voteFile), set, replica, h.cfg.publish); err != nil {
		return nil, err
	}
	o.low = &lowWater{path: filepath.Join(dir, lowWaterFile), set: set, replica: replica, tide: h.tide, publish: h.cfg.publish}
	level, err := readWaterLevel(o.low.path, set, replica)
	if err != nil {
		return nil, err
	}
	options := LogOptions{
		Dir: filepath.Join(dir, logDir), SegmentBytes: h.cfg.SegmentBytes, Clean: level.clean, Logger: h.cfg.Logger,
	}
	if level.index > m.index {
		options.Reached = level.index
	}
	store, err := h.cfg.LogStore(options)
	if err != nil {
		return nil, err
	}
	o.log = newCheckedLog(store, set)
	if err := o.settle(level); err != nil {
		return nil, errors.Join(err, o.log.Close())
	}
	return o, nil
}

// identify tells which member a replica is. One that has joined stands in no
// configuration until the leader's log reaches it, and one that was removed
// does no more.
func (h *Host) identify(m *manifest) (Member, error) {
	self, ok := find(m.servers, m.replica)
	switch {
	case !ok && h.cfg.Node == quorate.NodeID{}:
		return Member{}, fmt.Errorf("the replica is not in its set's configuration at index %d", m.index)
	case !ok:
		return Member{Node: h.cfg.Node, Replica: m.replica}, nil
	case h.cfg.Node != quorate.NodeID{} && self.Node != h.cfg.Node:
		return Member{}, fmt.Errorf("the replica is that of node %s", self.Node)
	}
	return self.Member, nil
}

// settle checks the log against manifest, vote and low-water mark, deletes it
// if it is not the manifest's, and makes the mark say that the replica runs. The
// mark's publication fsyncs the directory, so that manifest and vote are durable
// under their names even if that alone had failed when they were published.
func (o *files) settle(level waterLevel) (err error) {
	m := o.manifests.current()
	o.low.volatile = o.log.volatile()
	if o.tail, err = inspect(o.log, m, o.trail); err != nil {
		return err
	}
	reached := max(o.tail.last, m.index)
	if !o.low.volatile && reached < level.index {
		return damaged("log and manifest end at entry %d, below the low-water mark %d", reached, level.index)
	}
	if term := o.votes.term(); term < m.term || term < o.tail.term {
		return damaged("the vote's term is %d, behind manifest (%d) or log (%d)", term, m.term, o.tail.term)
	}
	if !o.tail.follows {
		// The mark goes down before the log does.
		if err := o.low.save(m.index, false); err != nil {
			return err
		}
		if err := o.log.DeleteRange(o.tail.first, o.tail.last); err != nil {
			return fmt.Errorf("delete a log that is not the manifest's: %w", err)
		}
		o.tail = tail{follows: true}
		o.trail.truncated(0)
		return nil
	}
	return o.low.save(reached, false)
}

// tail is what a log holds when its replica opens.
type tail struct {
	first, last uint64
	term        uint64 // of the last entry
	bytes       int64  // of the commands past the manifest
	commands    int    // how many those are
	lastCommand uint64 // the index of the last of them, 0 if there is none
	// configurations are those past the manifest.
	configurations []generation
	// follows tells that the log continues the manifest, or is empty.
	follows bool
}

// inspect reads the whole log before Raft does, which panics on an entry that it
// cannot read and would take every other group of the process along.
func inspect(log *checkedLog, m *manifest, marks *trail) (t tail, err error) {
	if t.first, err = log.FirstIndex(); err != nil {
		return t, err
	}
	if t.last, err = log.LastIndex(); err != nil {
		return t, err
	}
	if t.last == 0 {
		return tail{follows: true}, nil
	}
	if t.first > m.index+1 {
		// Entries are deleted only up to a published manifest.
		return t, damaged("the log starts at entry %d, but the manifest ends at %d", t.first, m.index)
	}
	t.follows = t.first == m.index+1
	for index := t.first; index <= t.last; index++ {
		var l raft.Log
		if err := log.GetLog(index, &l); errors.Is(err, raft.ErrLogNotFound) {
			return t, damaged("entry %d of the log [%d, %d] is missing", index, t.first, t.last)
		} else if err != nil {
			return t, err
		}
		if l.Term < t.term {
			return t, damaged("log entry %d has term %d, after an entry of term %d", index, l.Term, t.term)
		}
		t.term = l.Term
		if index == m.index {
			t.follows = l.Term == m.term
		}
		marks.stored(&l)
		if l.Type == raft.LogConfiguration {
			servers, err := decodeConfiguration(l.Data)
			if err != nil {
				return t, fmt.Errorf("log entry %d: %w", index, err)
			}
			if index > m.index {
				t.configurations = append(t.configurations, generation{index: index, servers: servers})
			}
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if err := checkCommand(&l); err != nil {
			return t, err
		}
		if index > m.index {
			t.bytes += int64(len(l.Data))
			t.commands++
			t.lastCommand = index
		}
	}
	return t, nil
}

// checkCommand checks an entry's own frame. A kind or version this binary does
// not know is no damage: the replica waits for a newer one (PROTOCOL 22).
func checkCommand(l *raft.Log) error {
	if isFence(l.Data) {
		return nil
	}
	err := wire.CheckEntry(l.Data)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrCorrupt):
		return damaged("log entry %d: %w", l.Index, err)
	}
	return fmt.Errorf("log entry %d: %w", l.Index, err)
}

// start puts the parts together and starts Raft on them.
func (h *Host) start(ctx context.Context, o *files, sm StateMachine) (*Group, error) {
	m := o.manifests.current()
	logger := h.cfg.Logger.With("set", uint64(m.set), "replica", uint64(m.replica))
	news := &notice{}
	book := newRoster(m, o.tail.configurations, news)
	single := book.isAlone(o.local)
	lifetime, cancel := context.WithCancel(context.WithoutCancel(ctx))
	g := &Group{
		host: h, set: m.set, local: o.local, logger: logger,
		guard: newGuard(), manifests: o.manifests, low: o.low,
		news: news, roster: book, progress: &progress{news: news}, opened: time.Now(), openedIn: o.votes.term(),
		cancel:   cancel,
		turn:     make(chan struct{}, 1),
		flushing: make(chan struct{}, 1),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		failed:   make(chan struct{}),
	}
	g.transport = h.cfg.newTransport(g)
	o.manifests.guard, o.votes.guard, o.low.guard = g.guard, g.guard, g.guard
	o.manifests.dog = h.watchdog(m, "publish the manifest")
	o.votes.dog = h.watchdog(m, "save the vote")
	brake := newReplay(0, g.guard.halted)
	if len(book.latest().servers) == 1 {
		// Learners are sent the log by goroutines that must not be held back.
		brake.upTo = o.tail.last
	}
	behind := newCatchUp(o.tail, logger)
	g.log = &guardedLog{
		catchUp:    behind,
		checkedLog: o.log, guard: g.guard, dog: h.watchdog(m, "append to the log"),
		low: o.low, manifests: o.manifests, replay: brake, metrics: h.metrics,
		roster: book, trail: o.trail, trailing: int64(h.cfg.TrailingBytes),
	}
	g.log.bytes.Store(o.tail.bytes)
	g.proposer = newProposer(g)
	g.machine = &machine{
		sm: sm, guard: g.guard, manifests: o.manifests, replay: brake,
		proposer: g.proposer, metrics: h.metrics, lifetime: lifetime, catchUp: behind,
		roster: book, news: news, stored: &g.log.bytes,
	}
	g.machine.index.Store(m.index)
	g.machine.term.Store(m.term)
	if err := g.startRaft(o, h.raftConfig(o.local, logger)); err != nil {
		cancel()
		return nil, errors.Join(err, g.transport.Close())
	}
	g.guard.running.Store(true)
	go g.supervise()
	go g.proposer.run()
	if single {
		g.elect()
	}
	return g, nil
}

// startRaft calls NewRaft, which panics on what inspect has not found.
func (g *Group) startRaft(o *files, cfg *raft.Config) (err error) {
	defer g.guard.recovered("starting raft", &err)
	g.raft, err = raft.NewRaft(cfg, g.machine, g.log, o.votes, o.manifests, g.transport)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	return nil
}

func (h *Host) watchdog(m *manifest, what string) *watchdog {
	return newWatchdog(fmt.Sprintf("set %d, replica %d: %s", m.set, m.replica, what), h.cfg.StallAfter, h.cfg.Fatal)
}

// raftConfig is the library's configuration.
func (h *Host) raftConfig(local Member, logger *slog.Logger) *raft.Config {
	timeout := h.cfg.HeartbeatTimeout
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            local.serverID(),
		Logger:             newRaftLogger(logger),
		HeartbeatTimeout:   timeout,
		ElectionTimeout:    timeout,
		LeaderLeaseTimeout: timeout,
		CommitTimeout:      timeout / 2,
		MaxAppendEntries:   maxAppendEntries,
		// Unbuffered, so that ApplyLog returns when the main loop has taken the
		// entry: submit builds on it, and entries are batches already.
		BatchApplyCh: false,
		// Snapshots are taken when Flush says so, and by nothing else.
		SnapshotInterval:  never,
		SnapshotThreshold: math.MaxUint64 / 2,
		// What followers may want again, guardedLog keeps: by bytes.
		TrailingLogs:             0,
		NoSnapshotRestoreOnStart: true,
		NoLegacyTelemetry:        true,
		ShutdownOnRemove:         false,
	}
}

// elect has a follower look now whether it has a leader, and run if it has none,
// rather than when its timer ends: the library's followers look when a timeout is
// shortened. So the one voter of a set leads in milliseconds, others do as soon as
// the vigil misses their leader, and timeouts need not be shortened for it, which
// would wake every idle group at their pace.
func (g *Group) elect() {
	rc := g.raft.ReloadableConfig()
	timeout := g.host.cfg.HeartbeatTimeout
	for _, d := range []time.Duration{timeout + time.Millisecond, timeout} {
		rc.HeartbeatTimeout, rc.ElectionTimeout = d, d
		if err := g.raft.ReloadConfig(rc); err != nil {
			// NewRaft accepted both values; the election only comes later.
			g.logger.Warn("an election was not hastened", "err", err)
		}
	}
}

// checkFormed tells a replica that was never formed, or half, from one that lost
// its manifest.
func checkFormed(dir string, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	_, err := os.Stat(filepath.Join(dir, manifestFile))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := checkUnborn(dir, set, replica); errors.Is(err, ErrFormedOtherwise) {
		return damaged("the manifest is missing: %w", err)
	} else if err != nil {
		return err
	}
	return ErrNotFormed
}

// quarantine renames a replica's directory aside, with the reason in it.
func quarantine(dir string, reason error) error {
	if _, err := os.Stat(dir); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, reasonFile), []byte(reason.Error()+"\n")); err != nil {
		return err
	}
	return durable.Rename(dir, dir+quarantineSuffix)
}

// checkQuarantine refuses a replica that was quarantined. The reason may not be
// readable; that does not make the replica any better.
func checkQuarantine(dir string) error {
	aside := dir + quarantineSuffix
	if _, err := os.Stat(aside); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	reason, err := os.ReadFile(filepath.Join(aside, reasonFile))
	if err != nil {
		return fmt.Errorf("%w in %s: %w", ErrQuarantined, aside, err)
	}
	return fmt.Errorf("%w in %s: %s", ErrQuarantined, aside, bytes.TrimSpace(reason))
}
