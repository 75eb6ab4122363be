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

// identity is who this data directory belongs to: minted once, at the first
// start on an empty directory, and never changed (PROTOCOL 1).
type identity struct {
	Cluster quorate.ClusterID
	Node    quorate.NodeID
}

// identityFile is the JSON form of the identity file, docs/format/identity.md.
type identityFile struct {
	Version     int    `json:"version"`
	ClusterID   string `json:"cluster_id"`
	Name        string `json:"name"`
	Incarnation string `json:"incarnation"`
}

const (
	identityName    = "identity"
	identityVersion = 1
)

// openIdentity reads the identity of a data directory. An empty or missing
// directory is given a new identity under the name; a directory that holds
// anything but no identity, or another node's, is refused, since whoever wrote
// it may have voted under an identity this node does not know (PROTOCOL 16).
func openIdentity(dir, name string) (identity, error) {
	path := filepath.Join(dir, identityName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return mintIdentity(dir, path, name)
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

func mintIdentity(dir, path, name string) (identity, error) {
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
	id := identity{
		Cluster: quorate.NewClusterID(),
		Node:    quorate.NodeID{Name: name, Incarnation: quorate.NewIncarnation()},
	}
	data, err := json.MarshalIndent(identityFile{
		Version:     identityVersion,
		ClusterID:   id.Cluster.String(),
		Name:        name,
		Incarnation: id.Node.Incarnation.String(),
	}, "", "  ")
	if err != nil {
		return identity{}, err
	}
	return id, durable.WriteFile(path, append(data, '\n'))
}

func decodeIdentity(data []byte) (identity, error) {
	var f identityFile
	if err := json.Unmarshal(data, &f); err != nil {
		return identity{}, err
	}
	if f.Version != identityVersion {
		return identity{}, fmt.Errorf("version %d is not known to this binary (it knows %d)", f.Version, identityVersion)
	}
	cluster, err := quorate.ParseClusterID(f.ClusterID)
	if err != nil {
		return identity{}, err
	}
	incarnation, err := quorate.ParseIncarnation(f.Incarnation)
	if err != nil {
		return identity{}, err
	}
	if f.Name == "" {
		return identity{}, errors.New("the node's name is empty")
	}
	return identity{Cluster: cluster, Node: quorate.NodeID{Name: f.Name, Incarnation: incarnation}}, nil
}
