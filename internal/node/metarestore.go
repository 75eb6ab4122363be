package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// supersededSuffix ends the name of the directory of a metadata replica in whose
// stead a restored one was made.
const supersededSuffix = ".superseded"

// MetaSource is where an offline dump of the metadata came from.
type MetaSource struct {
	// File is relative to the data directory.
	File string
	// Notes say what else was there and could not be read.
	Notes []string
}

// DumpMeta returns the newest metadata that a data directory has, which no server
// uses: those of its replica of the metadata group to the end of its log, or those
// of its copy of the map.
func DumpMeta(ctx context.Context, dir string) (*metasvc.Dump, MetaSource, error) {
	lock, id, err := openStopped(dir)
	if err != nil {
		return nil, MetaSource{}, err
	}
	d, source, err := newestMeta(ctx, dir, id)
	return d, source, errors.Join(err, lock.Close())
}

// openStopped takes the lock of a data directory that has been used.
func openStopped(dir string) (*dirLock, identity, error) {
	data, err := os.ReadFile(filepath.Join(dir, identityName))
	if err != nil {
		return nil, identity{}, fmt.Errorf("data directory %s: %w", dir, err)
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return nil, identity{}, fmt.Errorf("identity file of %s: %w", dir, err)
	}
	lock, err := lockDir(dir)
	return lock, id, err
}

func newestMeta(ctx context.Context, dir string, id identity) (newest *metasvc.Dump, source MetaSource, err error) {
	consider := func(file string, d *metasvc.Dump, err error) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			source.Notes = append(source.Notes, fmt.Sprintf("%s: %v", file, err))
		case d.Cluster != id.Cluster:
			source.Notes = append(source.Notes, fmt.Sprintf("%s: it is of cluster %s, and the directory of cluster %s", file, d.Cluster, id.Cluster))
		case newest == nil || d.Index > newest.Index:
			newest, source.File = d, file
		}
	}
	if id.MetaReplica != 0 {
		file := filepath.Join(raftDirName, metaReplicaDir(id.MetaReplica))
		d, err := replicaMeta(ctx, filepath.Join(dir, file))
		consider(file, d, err)
	}
	file := filepath.Join(metaDirName, metasvc.MapFile)
	b, err := os.ReadFile(filepath.Join(dir, file))
	var d *metasvc.Dump
	if err == nil {
		d, err = metasvc.DumpOfMapFile(b, time.Now())
	}
	consider(file, d, err)
	if err := ctx.Err(); err != nil {
		return nil, source, err
	}
	if newest == nil {
		return nil, source, quorate.Errorf(quorate.NotFound, "data directory %s has no metadata that can be read: %q", dir, source.Notes)
	}
	return newest, source, nil
}

// metaReplicaDir is the name of a metadata replica's directory.
func metaReplicaDir(id quorate.ReplicaID) string {
	return fmt.Sprintf("%d-%d", quorate.MetaReplicaSet, id)
}

// replicaMeta reads a replica of the metadata group, from its manifest to the end
// of its log. What stands at the end may not have been committed; nobody is left
// who could tell.
func replicaMeta(ctx context.Context, dir string) (*metasvc.Dump, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, err
	}
	var entries []quorate.LogEntry
	report, err := raftset.Verify(ctx, dir, func(e quorate.LogEntry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, p := range report.Problems {
		return nil, fmt.Errorf("%s: %w", p.File, p.What)
	}
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	if err := machine.Open(ctx, report.Payload, report.Index); err != nil {
		return nil, err
	}
	if _, err := machine.ApplyBatch(entries); err != nil {
		return nil, err
	}
	return machine.Dump(time.Now())
}

// RestoreOptions say how the metadata are restored.
type RestoreOptions struct {
	// Dir is the data directory of the node that is to hold the metadata: one
	// that no server uses, or an empty one.
	Dir string
	// Cluster is the cluster's ID, which whoever asks has to know.
	Cluster quorate.ClusterID
	// Dump is what is restored; nil is the newest that the directory has itself.
	Dump *metasvc.Dump
	// Name is the name of the node where the directory is empty.
	Name string
}

// RestoredMeta is what a restore did.
type RestoredMeta struct {
	Cluster quorate.ClusterID `json:"cluster"`
	Node    quorate.NodeID    `json:"node"`
	Replica quorate.ReplicaID `json:"replica"`
	// From is the index of what was restored, Index where the new log begins.
	From  uint64 `json:"from_index"`
	Index uint64 `json:"index"`
	Epoch uint64 `json:"epoch"`
}

// RestoreMeta makes a node the only voter of a new metadata group, for a cluster
// that has lost the majority of its metadata replicas for ever. The node is
// started afterwards as always. Everything else of the cluster stays as it is:
// the other nodes follow the new group when they find it, keep their replicas,
// and join it as the controller sees fit.
//
// Nobody can tell here whether the old group is gone; the node looks for it at
// each start (metalink.Link.FindEarlierLeader). What can be told is refused: a
// dump of another cluster, one that is older than what the directory itself has,
// and a directory that is in use or another's. A restore that was cut short is
// repeated; until it is done the directory is what it was.
func RestoreMeta(ctx context.Context, o RestoreOptions) (RestoredMeta, error) {
	lock, id, err := openForRestore(o)
	if err != nil {
		return RestoredMeta{}, fmt.Errorf("restore metadata: %w", err)
	}
	done, err := restoreMeta(ctx, o, id)
	if err = errors.Join(err, lock.Close()); err != nil {
		return RestoredMeta{}, fmt.Errorf("restore metadata: %w", err)
	}
	return done, nil
}

// openForRestore takes the directory's lock and reads its identity, or mints one
// where it is empty.
func openForRestore(o RestoreOptions) (*dirLock, identity, error) {
	if _, err := os.Stat(filepath.Join(o.Dir, identityName)); err == nil {
		return openStopped(o.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, identity{}, err
	}
	if o.Dump == nil || o.Name == "" {
		return nil, identity{}, quorate.Errorf(quorate.Invalid, "data directory %s is no node's: that takes a dump, and a name for the node", o.Dir)
	}
	lock, id, err := openDir(o.Dir, o.Name)
	if err != nil && lock != nil {
		err = errors.Join(err, lock.Close())
	}
	return lock, id, err
}

func restoreMeta(ctx context.Context, o RestoreOptions, id identity) (RestoredMeta, error) {
	if !id.Cluster.IsZero() && id.Cluster != o.Cluster {
		return RestoredMeta{}, quorate.Errorf(quorate.Invalid, "data directory %s belongs to cluster %s, not to %s", o.Dir, id.Cluster, o.Cluster)
	}
	if err := checkUnused(o.Dir, id); err != nil {
		return RestoredMeta{}, err
	}
	dump := o.Dump
	if !id.Cluster.IsZero() {
		own, source, err := newestMeta(ctx, o.Dir, id)
		switch {
		case err != nil && dump == nil, ctx.Err() != nil:
			return RestoredMeta{}, err
		case err == nil && dump == nil:
			dump = own
		case err == nil && own.Index > dump.Index:
			return RestoredMeta{}, quorate.Errorf(quorate.Invalid, "the dump is of index %d, and %s of %s is newer, of index %d: restore from that", dump.Index, source.File, o.Dir, own.Index)
		}
	}
	if dump.Cluster != o.Cluster {
		return RestoredMeta{}, quorate.Errorf(quorate.Invalid, "the dump is of cluster %s, not of %s", dump.Cluster, o.Cluster)
	}
	spec := metasvc.NodeSpec{ID: id.Node, Roles: metasvc.AllRoles}
	if known := dump.Node(id.Node); known != nil {
		spec = known.NodeSpec
	}
	restored, err := dump.Restore(spec)
	if err != nil {
		return RestoredMeta{}, err
	}
	host, err := raftset.NewHost(raftset.HostConfig{Dir: filepath.Join(o.Dir, raftDirName), Node: id.Node})
	if err != nil {
		return RestoredMeta{}, err
	}
	err = host.Refound(ctx, raftset.Refounding{
		Set: quorate.MetaReplicaSet, Voter: raftset.Member(restored.Member), Index: restored.Index, Term: restored.Term, Payload: restored.Payload,
	})
	if err = errors.Join(err, host.Close()); err != nil {
		return RestoredMeta{}, err
	}
	// With the identity the directory is the new replica's.
	old := id.MetaReplica
	id.Cluster = o.Cluster
	if err := id.holdMeta(o.Dir, restored.Member.Replica); err != nil {
		return RestoredMeta{}, err
	}
	if old != 0 {
		if err := supersede(filepath.Join(o.Dir, raftDirName, metaReplicaDir(old))); err != nil {
			return RestoredMeta{}, err
		}
	}
	return RestoredMeta{
		Cluster: o.Cluster, Node: id.Node, Replica: restored.Member.Replica,
		From: dump.Index, Index: restored.Index, Epoch: metasvc.Epoch(restored.Index),
	}, nil
}

// checkUnused refuses a directory without a cluster that has samples of one.
func checkUnused(dir string, id identity) error {
	if !id.Cluster.IsZero() {
		return nil
	}
	for _, name := range []string{lifecycle.SetsDir, lifecycle.TrashDir, metaDirName} {
		switch entries, err := os.ReadDir(filepath.Join(dir, name)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case len(entries) > 0:
			return quorate.Errorf(quorate.Invalid, "data directory %s belongs to no cluster, and its %s is not empty", dir, name)
		}
	}
	return nil
}

// supersede puts the directory of the replica aside that the restored one
// replaces. It is never opened again, and kept.
func supersede(dir string) error {
	err := durable.Rename(dir, dir+supersededSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
