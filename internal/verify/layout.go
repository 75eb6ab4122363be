package verify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
)

// What lies in a data directory. The names are internal/node's,
// internal/lifecycle's and raftset's, which own the directory; a test has a node
// make one.
const (
	lockName     = "lock"
	identityName = "identity"
	raftName     = "raft"
	setsName     = "sets"
	metaName     = "meta"
	trashName    = "trash"
	// quarantineSuffix ends the name of a directory below raftName that was
	// taken out of service.
	quarantineSuffix = ".quarantined"
)

// identityVersion is the version of the identity file that is known here;
// docs/format/identity.md describes it.
const identityVersion = 2

// identity is whose directory it is.
type identity struct {
	cluster quorate.ClusterID
	node    quorate.NodeID
}

func readIdentity(dir string) (identity, error) {
	data, err := os.ReadFile(filepath.Join(dir, identityName))
	if err != nil {
		return identity{}, err
	}
	return decodeIdentity(data)
}

func decodeIdentity(data []byte) (identity, error) {
	var f struct {
		Version     int    `json:"version"`
		ClusterID   string `json:"cluster_id"`
		Name        string `json:"name"`
		Incarnation string `json:"incarnation"`
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return identity{}, err
	}
	if f.Version != identityVersion {
		return identity{}, fmt.Errorf("version %d is not known to this binary (it knows %d)", f.Version, identityVersion)
	}
	var cluster quorate.ClusterID // none while the node belongs to no cluster
	var err error
	if f.ClusterID != "" {
		if cluster, err = quorate.ParseClusterID(f.ClusterID); err != nil {
			return identity{}, err
		}
	}
	incarnation, err := quorate.ParseIncarnation(f.Incarnation)
	if err != nil {
		return identity{}, err
	}
	if f.Name == "" {
		return identity{}, errors.New("the node's name is empty")
	}
	return identity{cluster: cluster, node: quorate.NodeID{Name: f.Name, Incarnation: incarnation}}, nil
}

// replicaKey names a replica; its directories are called <set>-<replica>.
type replicaKey struct {
	set     quorate.ReplicaSetID
	replica quorate.ReplicaID
}

func (k replicaKey) String() string { return fmt.Sprintf("%d-%d", k.set, k.replica) }

func parseReplicaKey(name string) (k replicaKey, ok bool) {
	n, err := fmt.Sscanf(name, "%d-%d", &k.set, &k.replica)
	return k, err == nil && n == 2 && k.String() == name
}
