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
	c := &check{cfg: cfg, canonical: map[replicaKey]bool{}, report: Report{Dir: cfg.Dir, Replicas: []Replica{}, Problems: []Finding{}, Notes: []Finding{}}}
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
	// canonical are the replicas that have a canonical block, good or bad.
	canonical   map[replicaKey]bool
	done, total int64
}

// found is what lies in the directory of one replica.
type found struct {
	key replicaKey
	// raft and sets are the names of its directories below raftName and
	// setsName, empty where there is none.
	raft, sets string
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
	all := map[replicaKey]*found{}
	for _, below := range []string{raftName, setsName} {
		entries, err := os.ReadDir(filepath.Join(c.cfg.Dir, below))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			name, _, _ := strings.Cut(e.Name(), ".")
			key, ok := parseReplicaKey(name)
			if !ok || !e.IsDir() {
				c.note(Finding{File: filepath.Join(below, e.Name()), Offset: -1, What: "this is not of the server's making and is not checked"})
				continue
			}
			if all[key] == nil {
				all[key] = &found{key: key}
			}
			if below == raftName {
				all[key].raft = e.Name()
			} else {
				all[key].sets = e.Name()
			}
		}
	}
	list := make([]found, 0, len(all))
	for _, f := range all {
		list = append(list, *f)
	}
	slices.SortFunc(list, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.key.set, b.key.set), cmp.Compare(a.key.replica, b.key.replica))
	})
	return list, nil
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
	if f.key.set != quorate.MetaReplicaSet && r.State != StateUnformed {
		if err := c.samples(ctx, f, &log, &r); err != nil {
			return err
		}
	}
	r.Problems = len(c.report.Problems) - before
	c.report.Replicas = append(c.report.Replicas, r)
	return nil
}

// log checks a replica's directory below raftName.
func (c *check) log(ctx context.Context, f found, r *Replica) (log raftset.Report, err error) {
	dir, remedy := filepath.Join(c.cfg.Dir, raftName, f.raft), remedyReplica
	if f.key.set == quorate.MetaReplicaSet {
		r.State, remedy = StateMetadata, remedyMeta
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
	r.Index, r.FirstEntry, r.LastEntry, r.Entries = log.Index, log.FirstIndex, log.LastIndex, log.Entries
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
	there := map[replicaKey]found{}
	for _, f := range replicas {
		there[f.key] = f
	}
	for _, set := range c.records.sets {
		for _, m := range set.Members {
			key := replicaKey{set.ID, m.Replica}
			dir := raftName
			if set.State == metasvc.ReplicaSetSealed {
				dir = setsName
			}
			if m.Node != c.identity.node || there[key].raft != "" || dir == setsName && c.canonical[key] || !mustBeHere(set, m.Replica) {
				continue
			}
			c.problem(Finding{
				File: filepath.Join(dir, key.String()), Offset: -1, Remedy: remedyGone,
				What: fmt.Sprintf("set %d, replica %d is recorded for this node, but its files are gone", set.ID, m.Replica),
			})
		}
	}
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
