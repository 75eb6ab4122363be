package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/metasvc"
)

// replicaStatus is what a node knows of one of its own replicas.
type replicaStatus struct {
	Set     quorate.ReplicaSetID `json:"set"`
	Replica quorate.ReplicaID    `json:"replica"`
	// Serving is what the samples are read from: log, file or nothing.
	Serving string `json:"serving"`
	// What follows is of replicas that run on their log.
	Leader        bool   `json:"leader,omitempty"`
	Learner       bool   `json:"learner,omitempty"`
	Term          uint64 `json:"term,omitempty"`
	Applied       uint64 `json:"applied_index,omitempty"`
	Last          uint64 `json:"last_index,omitempty"`
	LogBytes      int64  `json:"log_bytes,omitempty"`
	MemcacheBytes int64  `json:"memcache_bytes,omitempty"`
	// Files and FileBytes are the files of samples.
	Files     int    `json:"files,omitempty"`
	FileBytes int64  `json:"file_bytes,omitempty"`
	Broken    string `json:"broken,omitempty"`
}

func replicaStatusOf(s lifecycle.SetStatus) replicaStatus {
	r := replicaStatus{
		Set: s.Record.ID, Replica: s.Replica, Serving: s.Serving, Leader: s.Leader, Learner: s.Learner, Term: s.Term,
		Applied: s.AppliedIndex, Last: s.LastIndex, LogBytes: s.LogBytes, MemcacheBytes: s.MemcacheBytes,
		Files: s.Files, FileBytes: s.FileBytes,
	}
	if s.Broken != nil {
		r.Broken = s.Broken.Error()
	}
	return r
}

// replicaStatuses are those of this node's replicas: of one set, or of all where
// set is 0.
func (n *Node) replicaStatuses(set quorate.ReplicaSetID) []replicaStatus {
	list := []replicaStatus{}
	for _, s := range n.replicas.Sets() {
		if set == 0 || s.Record.ID == set {
			list = append(list, replicaStatusOf(s))
		}
	}
	return list
}

// askReplicas asks a node for the state of its replicas.
func (n *Node) askReplicas(ctx context.Context, node quorate.NodeID, set quorate.ReplicaSetID) (list []replicaStatus, err error) {
	if node == n.identity.Node {
		return n.replicaStatuses(set), nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	answer, err := n.port.Call(ctx, node, methodReplicas, request)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("replicas of node %s: %w", node.Name, err)
	}
	return list, nil
}

// listedReplica is one replica, as GET /api/v1/admin/replicas shows it.
type listedReplica struct {
	replicaStatus

	Node   string           `json:"node"`
	Bucket quorate.BucketID `json:"bucket"`
	Shard  int              `json:"shard"`
	// State is the set's.
	State string `json:"state"`
	// Role is voter or learner of a replica that runs on its log, copy of one of
	// a sealed set, joining of one that is not there yet, left of one whose files
	// are not moved away yet.
	Role string `json:"role"`
	// Lag is how many log entries it lacks of what its leader has applied;
	// missing where that is not known.
	Lag *uint64 `json:"lag,omitempty"`

	on quorate.NodeID
}

// The roles of replicas.
const (
	roleVoter   = "voter"
	roleLearner = "learner"
	roleCopy    = "copy"
	roleJoining = "joining"
	roleLeft    = "left"
)

// gatherReplicas lists the replicas of sets as their nodes know them; a node that
// does not answer has its replicas listed as broken.
func (a *clusterAdmin) gatherReplicas(ctx context.Context, only quorate.ReplicaSetID, wanted func(*metasvc.ReplicaSet) bool) []listedReplica {
	var list []listedReplica
	nodes := make(map[quorate.NodeID]bool)
	for _, set := range a.client.Map().Sets() {
		if only != 0 && set.ID != only || wanted != nil && !wanted(set) {
			continue
		}
		row := func(m metasvc.Member, role string) {
			nodes[m.Node] = true
			list = append(list, listedReplica{
				replicaStatus: replicaStatus{Set: set.ID, Replica: m.Replica, Serving: "nothing"},
				Node:          m.Node.Name, on: m.Node, Bucket: set.Bucket, Shard: set.Shard, State: set.State.String(), Role: role,
			})
		}
		role := roleVoter
		if set.State == metasvc.ReplicaSetSealed {
			role = roleCopy
		}
		for _, m := range set.Members {
			row(m, role)
		}
		if change, changing := set.Changing(); changing && change.Add.Replica != 0 {
			row(change.Add, roleJoining)
		}
		for _, m := range set.Left {
			row(m, roleLeft)
		}
	}
	known, failed := a.askAllReplicas(ctx, nodes, only)
	applied := make(map[quorate.ReplicaSetID]uint64)
	for _, s := range known {
		if s.Leader {
			applied[s.Set] = max(applied[s.Set], s.Applied)
		}
	}
	for i := range list {
		list[i].learn(known, failed, applied)
	}
	return list
}

// learn takes in what the replica's node says of it.
func (r *listedReplica) learn(known map[metasvc.Member]replicaStatus, failed map[quorate.NodeID]error, applied map[quorate.ReplicaSetID]uint64) {
	if err := failed[r.on]; err != nil {
		r.Serving, r.Broken = "unknown", "its node does not answer: "+err.Error()
		return
	}
	status, there := known[metasvc.Member{Node: r.on, Replica: r.Replica}]
	if !there {
		return
	}
	r.replicaStatus = status
	if status.Learner {
		r.Role = roleLearner
	}
	if leads, ok := applied[r.Set]; ok && status.Serving == "log" {
		lag := leads - min(leads, status.Applied)
		r.Lag = &lag
	}
}

func (a *clusterAdmin) askAllReplicas(ctx context.Context, nodes map[quorate.NodeID]bool, set quorate.ReplicaSetID) (map[metasvc.Member]replicaStatus, map[quorate.NodeID]error) {
	known, failed := make(map[metasvc.Member]replicaStatus), make(map[quorate.NodeID]error)
	var mu sync.Mutex // guards known and failed
	var wait sync.WaitGroup
	for node := range nodes {
		wait.Go(func() {
			answer, err := a.node.askReplicas(ctx, node, set)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[node] = err
			}
			for _, s := range answer {
				known[metasvc.Member{Node: node, Replica: s.Replica}] = s
			}
		})
	}
	wait.Wait()
	return known, failed
}

// replicas lists all replicas, or those of ?set=, on ?node=, with ?broken=true
// those alone that are broken or whose node does not answer.
func (a *clusterAdmin) replicas(r *http.Request) (any, error) {
	var set quorate.ReplicaSetID
	var err error
	if r.FormValue("set") != "" {
		if set, err = a.findSet(r); err != nil {
			return nil, err
		}
	}
	var node quorate.NodeID
	if text := r.FormValue("node"); text != "" {
		if node, err = a.findNode(text); err != nil {
			return nil, err
		}
	}
	broken := r.FormValue("broken") == "true"
	list := a.gatherReplicas(r.Context(), set, func(s *metasvc.ReplicaSet) bool { return node == (quorate.NodeID{}) || isOn(s, node) })
	list = slices.DeleteFunc(list, func(l listedReplica) bool {
		return node != (quorate.NodeID{}) && l.on != node || broken && l.Broken == ""
	})
	if list == nil {
		list = []listedReplica{}
	}
	return list, nil
}

// isOn tells whether a node has, is to have or had a replica of a set.
func isOn(s *metasvc.ReplicaSet, node quorate.NodeID) bool {
	if _, member := s.MemberOn(node); member {
		return true
	}
	change, _ := s.Changing()
	return change.Add.Node == node || slices.ContainsFunc(s.Left, func(m metasvc.Member) bool { return m.Node == node })
}

// findSet is the set that the parameter set names.
func (a *clusterAdmin) findSet(r *http.Request) (quorate.ReplicaSetID, error) {
	id, err := parseNumber[quorate.ReplicaSetID](r, "set")
	if err != nil {
		return 0, err
	}
	if a.client.Map().Set(id) == nil {
		return 0, quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
	}
	return id, nil
}
