package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// Config says what Run checks.
type Config struct {
	// Dir is the data directory.
	Dir string
	// Progress, if not nil, is told how many bytes are checked of how many. It
	// is called by one goroutine and must not block.
	Progress func(done, total int64)
}

// What to do about a problem.
const (
	remedyReplica  = "at its next start the server sets this replica aside and serves the rest; to have its samples back, restore its directories below raft/ and sets/ together from a backup"
	remedySealed   = "restore the file from a backup, or copy it from another node: its name is the hash of its content"
	remedyMeta     = "the server does not start without its metadata; restore the whole data directory from a backup"
	remedyVersion  = "a newer version of quorate wrote this; use that one"
	remedyIdentity = "restore the file from a backup; it is as old as the directory and never changes"
	remedyGone     = "restore its directories below raft/ and sets/ from a backup"
)

// Run checks a data directory. Damage is in the report; the error wraps
// ErrInUse, ErrNotDataDir or the context's, or says why nothing can be read.
func Run(ctx context.Context, cfg Config) (Report, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(int64, int64) {}
	}
	c := &check{cfg: cfg, canonical: map[replicaKey]bool{}, sound: map[replicaKey]bool{}, report: Report{Dir: cfg.Dir, Replicas: []Replica{}, Problems: []Finding{}, Notes: []Finding{}}}
	err := c.run(ctx)
	c.report.sum()
	if err != nil {
		return c.report, fmt.Errorf("verify: %w", err)
	}
	return c.report, nil
}

// check is one run.
type check struct {
	cfg      Config
	report   Report
	identity identity // zero when it cannot be read
	records  records
	// canonical are the replicas that have the canonical block that counts, good
	// or bad: the recorded one, or any where none is recorded.
	canonical map[replicaKey]bool
	// sound are the replicas in service that have a log, and no problems.
	sound       map[replicaKey]bool
	done, total int64
}

// found is what lies in the directories of one replica. One that is in service
// and one that was quarantined are two, also when they have the same key.
type found struct {
	key replicaKey
	// raft and sets are the names of its directories below raftName and
	// setsName, empty where there is none.
	raft, sets string
	// quarantined tells that raft was taken out of service.
	quarantined bool
	// beside tells that there is one in service too, to whose log the samples
	// belong.
	beside bool
}

func (c *check) run(ctx context.Context) (err error) {
	held, err := lock(c.cfg.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	c.readIdentity()
	replicas, err := c.list()
	if err != nil {
		return err
	}
	if c.total, err = directoryBytes(c.cfg.Dir); err != nil {
		return err
	}
	c.cfg.Progress(0, c.total)
	for _, f := range replicas {
		if err := c.replica(ctx, f); err != nil {
			return err
		}
		c.advance(f)
	}
	c.owner()
	c.missing(replicas)
	c.cfg.Progress(c.total, c.total)
	return nil
}

func (c *check) problem(f Finding) { c.report.Problems = append(c.report.Problems, f) }
func (c *check) note(f Finding)    { c.report.Notes = append(c.report.Notes, f) }

func (c *check) readIdentity() {
	id, err := readIdentity(c.cfg.Dir)
	if err != nil {
		c.problem(Finding{File: identityName, Offset: -1, What: err.Error(), Remedy: remedyIdentity})
		return
	}
	c.identity = id
	c.report.Cluster, c.report.Node = id.cluster.String(), id.node.String()
}

// list finds the directories of replicas, the metadata group's first.
func (c *check) list() ([]found, error) {
	live, aside := map[replicaKey]*found{}, map[replicaKey]*found{}
	samples := map[replicaKey]bool{}
	for _, below := range []string{raftName, setsName} {
		entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, below))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name, quarantined := e.Name(), false
			if below == raftName {
				name, quarantined = strings.CutSuffix(name, quarantineSuffix)
			}
			key, ok := parseReplicaKey(name)
			if !ok || !e.IsDir() {
				c.note(Finding{File: filepath.Join(below, e.Name()), Offset: -1, What: "this is not of the server's making and is not checked"})
				continue
			}
			switch {
			case below == setsName:
				samples[key] = true
			case quarantined:
				aside[key] = &found{key: key, raft: e.Name(), quarantined: true}
			default:
				live[key] = &found{key: key, raft: e.Name()}
			}
		}
	}
	return join(live, aside, samples), nil
}

// join gives the samples to the log in service, to the quarantined one where
// there is no other, and makes an entry of their own for those without a log. Of
// two entries with one key, the one in service comes first.
func join(live, aside map[replicaKey]*found, samples map[replicaKey]bool) []found {
	for key := range samples {
		switch {
		case live[key] != nil:
			live[key].sets = key.String()
		case aside[key] != nil:
			aside[key].sets = key.String()
		default:
			live[key] = &found{key: key, sets: key.String()}
		}
	}
	list := make([]found, 0, len(live)+len(aside))
	for _, f := range live {
		list = append(list, *f)
	}
	for key, f := range aside {
		f.beside = live[key] != nil
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.key.set, b.key.set), cmp.Compare(a.key.replica, b.key.replica), cmp.Compare(a.raft, b.raft))
	})
	return list
}

// replica checks one replica. Its error is of the context.
func (c *check) replica(ctx context.Context, f found) error {
	r := Replica{Set: uint64(f.key.set), Replica: uint64(f.key.replica), State: StateOpen}
	before := len(c.report.Problems)
	var log raftset.Report
	if f.raft != "" {
		var err error
		if log, err = c.log(ctx, f, &r); err != nil {
			return err
		}
	}
	if f.key.set != quorate.MetaReplicaSet && r.State != StateUnformed && !f.beside {
		if err := c.samples(ctx, f, &log, &r); err != nil {
			return err
		}
	}
	if f.quarantined {
		r.State = StateQuarantined
		delete(c.sound, f.key) // the server does not open one that this lies beside
	}
	r.Problems = len(c.report.Problems) - before
	if f.raft != "" && !f.quarantined && r.State != StateUnformed && r.Problems == 0 {
		c.sound[f.key] = true
	}
	c.report.Replicas = append(c.report.Replicas, r)
	return nil
}

// log checks a replica's directory below raftName.
func (c *check) log(ctx context.Context, f found, r *Replica) (log raftset.Report, err error) {
	dir, remedy := filepath.Join(c.cfg.Dir, raftName, f.raft), remedyReplica
	if f.key.set == quorate.MetaReplicaSet {
		r.State, remedy = StateMetadata, remedyMeta
	}
	if r.State == StateMetadata && !f.quarantined {
		log, c.records, err = c.readMetadata(ctx, dir)
	} else {
		log, err = raftset.Verify(ctx, dir, nil)
	}
	if ctx.Err() != nil {
		return log, ctx.Err()
	}
	if err != nil {
		c.problem(Finding{File: filepath.Join(raftName, f.raft), Offset: -1, What: err.Error(), Remedy: remedy})
	}
	if err == nil && !log.Formed {
		r.State = StateUnformed
	}
	r.Index, r.FirstEntry, r.LastEntry, r.Entries, r.Unflushed = log.Index, log.FirstIndex, log.LastIndex, log.Entries, log.Unflushed
	for _, p := range log.Problems {
		c.problem(c.finding(f, p, remedy))
	}
	for _, n := range log.Notes {
		c.note(c.finding(f, n, ""))
	}
	return log, nil
}

// finding turns what raftset found into what is reported.
func (*check) finding(f found, p raftset.Finding, remedy string) Finding {
	if remedy != "" && p.Unknown {
		remedy = remedyVersion
	}
	return Finding{File: filepath.Join(raftName, f.raft, p.File), Offset: p.Offset, What: p.What.Error(), Remedy: remedy}
}

// owner compares the identity with what the metadata group knows.
func (c *check) owner() {
	if c.identity == (identity{}) {
		return
	}
	what := ""
	switch known := c.records; {
	case known.cluster != nil && known.cluster.ID != c.identity.cluster:
		what = fmt.Sprintf("it names the cluster %s, but the metadata is that of %s", c.identity.cluster, known.cluster.ID)
	case len(known.nodes) > 0 && !slices.Contains(known.nodes, c.identity.node):
		what = fmt.Sprintf("it names the node %s, which the metadata does not know", c.identity.node)
	default:
		return
	}
	c.problem(Finding{File: identityName, Offset: -1, What: what, Remedy: remedyIdentity})
}

// missing finds the replicas that are recorded for this node and not there.
func (c *check) missing(replicas []found) {
	if c.identity == (identity{}) {
		return
	}
	live, aside := map[replicaKey]bool{}, map[replicaKey]bool{}
	for _, f := range replicas {
		live[f.key] = live[f.key] || f.raft != "" && !f.quarantined
		aside[f.key] = aside[f.key] || f.quarantined
	}
	for _, set := range c.records.sets {
		for _, m := range set.Members {
			key := replicaKey{set.ID, m.Replica}
			switch {
			case m.Node != c.identity.node || !mustBeHere(set, m.Replica):
			case set.State == metasvc.ReplicaSetSealed && set.Sealed != nil:
				c.missingBlock(set, key)
			case live[key]:
			case aside[key]:
				c.problem(Finding{
					File: filepath.Join(raftName, key.String()), Offset: -1, Remedy: remedyGone,
					What: fmt.Sprintf("set %d, replica %d is recorded for this node, but all that is there of its log was quarantined", set.ID, m.Replica),
				})
			default:
				c.problem(Finding{
					File: filepath.Join(raftName, key.String()), Offset: -1, Remedy: remedyGone,
					What: fmt.Sprintf("set %d, replica %d is recorded for this node, but its files are gone", set.ID, m.Replica),
				})
			}
		}
	}
}

// missingBlock finds that the recorded canonical block of a sealed replica is
// not there. A replica whose log is sound, and which did not report other
// samples than were sealed, builds it from them at its next start.
func (c *check) missingBlock(set *metasvc.ReplicaSet, key replicaKey) {
	if c.canonical[key] {
		return
	}
	f := Finding{File: filepath.Join(setsName, key.String(), tsdbshard.SealedFileName(set.Sealed.File)), Offset: -1}
	differs := slices.ContainsFunc(set.Reports, func(r metasvc.SealReport) bool {
		return r.Replica == key.replica && r.Checksum != set.Sealed.Checksum
	})
	if c.sound[key] && !differs {
		f.What = "the set was sealed as this file, which the next start builds from the replica's log and blocks"
		c.note(f)
		return
	}
	f.What = fmt.Sprintf("set %d, replica %d is recorded for this node as sealed, but its files are gone", key.set, key.replica)
	f.Remedy = remedySealed
	c.problem(f)
}

// mustBeHere tells whether a member of a set must have files.
func mustBeHere(set *metasvc.ReplicaSet, replica quorate.ReplicaID) bool {
	if slices.Contains(set.Dropped, replica) || set.State == metasvc.ReplicaSetDropping {
		return false
	}
	return slices.Contains(set.Formed, replica) || set.State != metasvc.ReplicaSetForming
}

// advance adds a replica's bytes to the progress.
func (c *check) advance(f found) {
	for _, dir := range []string{filepath.Join(raftName, f.raft), filepath.Join(setsName, f.sets)} {
		if filepath.Base(dir) == raftName || filepath.Base(dir) == setsName {
			continue
		}
		// What cannot be read has been reported; the bar may stand still.
		n, err := directoryBytes(filepath.Join(c.cfg.Dir, dir))
		if err == nil {
			c.done += n
		}
	}
	c.cfg.Progress(c.done, c.total)
}

// directoryBytes is the size of the files that are checked.
func directoryBytes(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == trashName || d.Name() == metaName) {
				return fs.SkipDir
			}
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
