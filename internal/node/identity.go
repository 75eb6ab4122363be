package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// identity is who this data directory belongs to. The node is minted once, at
// the first start on an empty directory, and never changed (PROTOCOL 1); the
// cluster is entered when the node has founded or found one, and never changed
// either.
type identity struct {
	Cluster quorate.ClusterID // zero: the node belongs to none yet
	Node    quorate.NodeID
	// MetaReplica is this directory's replica of the metadata group, 0 when it
	// has none. Whoever founds the cluster has the first, and gives birth to it.
	MetaReplica quorate.ReplicaID
}

// identityFile is the JSON form of the identity file, docs/format/identity.md.
type identityFile struct {
	Version     int    `json:"version"`
	ClusterID   string `json:"cluster_id,omitempty"`
	MetaReplica uint64 `json:"meta_replica,omitempty"`
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
}

const (
	identityName    = "identity"
	identityVersion = 2
)

// openIdentity reads the identity of a data directory. An empty or missing
// directory is given a new one under the name, without a cluster; a directory
// that holds anything but no identity, or another node's, is refused, since
// whoever wrote it may have voted under an identity this node does not know
// (PROTOCOL 16).
func openIdentity(dir, name string) (identity, error) {
	path := filepath.Join(dir, identityName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return mintIdentity(dir, name)
	}
	if err != nil {
		return identity{}, err
	}
	id, err := decodeIdentity(data)
	if err != nil {
		return identity{}, fmt.Errorf("identity file %s: %w", path, err)
	}
	if id.Node.Name != name {
		return identity{}, fmt.Errorf("data directory %s belongs to node %q, not to %q: a node keeps its name, and a new node needs an empty directory", dir, id.Node.Name, name)
	}
	return id, nil
}

func mintIdentity(dir, name string) (identity, error) {
	if err := durable.RemoveTemporary(dir); err != nil {
		return identity{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return identity{}, err
	}
	for _, e := range entries {
		if e.Name() != lockName {
			return identity{}, fmt.Errorf("data directory %s has no identity file but holds %q: it is not empty, and not this node's", dir, e.Name())
		}
	}
	id := identity{Node: quorate.NodeID{Name: name, Incarnation: quorate.NewIncarnation()}}
	return id, id.save(dir)
}

// enter makes a node that belongs to no cluster yet a member of one, for ever;
// of one that it founds, with the first replica of the metadata group.
func (id *identity) enter(dir string, cluster quorate.ClusterID, founder bool) error {
	entered := *id
	entered.Cluster = cluster
	if founder {
		entered.MetaReplica = firstMetaReplica
	}
	return id.become(dir, entered)
}

// holdMeta notes which replica of the metadata group the directory has: once its
// files are there and before it is opened, since from then on it may have voted.
// 0 is none.
func (id *identity) holdMeta(dir string, replica quorate.ReplicaID) error {
	holding := *id
	holding.MetaReplica = replica
	return id.become(dir, holding)
}

func (id *identity) become(dir string, next identity) error {
	if err := next.save(dir); err != nil {
		return err
	}
	// Field by field: others read the node's own name meanwhile.
	id.Cluster, id.MetaReplica = next.Cluster, next.MetaReplica
	return nil
}

func (id *identity) save(dir string) error {
	f := identityFile{
		Version:     identityVersion,
		MetaReplica: uint64(id.MetaReplica),
		Name:        id.Node.Name,
		Incarnation: id.Node.Incarnation.String(),
	}
	if !id.Cluster.IsZero() {
		f.ClusterID = id.Cluster.String()
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, identityName), append(data, '\n'))
}

func decodeIdentity(data []byte) (identity, error) {
	var f identityFile
	if err := json.Unmarshal(data, &f); err != nil {
		return identity{}, err
	}
	if f.Version != identityVersion {
		return identity{}, fmt.Errorf("version %d is not known to this binary (it knows %d)", f.Version, identityVersion)
	}
	id := identity{MetaReplica: quorate.ReplicaID(f.MetaReplica)}
	var err error
	if f.ClusterID != "" {
		if id.Cluster, err = quorate.ParseClusterID(f.ClusterID); err != nil {
			return identity{}, err
		}
	}
	if id.MetaReplica != 0 && id.Cluster.IsZero() {
		return identity{}, errors.New("it has metadata of a cluster that has no id")
	}
	if f.Name == "" {
		return identity{}, errors.New("the node's name is empty")
	}
	incarnation, err := quorate.ParseIncarnation(f.Incarnation)
	if err != nil {
		return identity{}, err
	}
	id.Node = quorate.NodeID{Name: f.Name, Incarnation: incarnation}
	return id, nil
}
