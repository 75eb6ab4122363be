package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/tsdbshard"
)

// What administration asks of other nodes. Requests and answers are JSON, since
// people wait for them and nothing else depends on them; docs/format/rpc.md
// lists the methods.
const (
	methodBeats     = "node.beats"
	methodTransfer  = "node.transfer"
	methodChecksums = "node.checksums"
	methodReplicas  = "node.replicas"
	methodControl   = "node.control"
)

const (
	// askTimeout bounds what is asked of another node for a listing.
	askTimeout = 2 * time.Second
	// transferTimeout bounds the hand-over of a set.
	transferTimeout = 15 * time.Second
)

// registerAdmin lets other nodes ask this one.
func (n *Node) registerAdmin() {
	n.port.Handle(methodBeats, func(context.Context, quorate.NodeID, []byte) ([]byte, error) {
		var beats []agedBeat
		for _, beat := range heard(n.meta.beats.List()) {
			beats = append(beats, agedBeat{metasvc.AppendHeartbeat(nil, beat), time.Since(beat.Received)})
		}
		return json.Marshal(beats)
	})
	n.port.Handle(methodTransfer, func(ctx context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		var t transferRequest
		if err := json.Unmarshal(request, &t); err != nil {
			return nil, quorate.Errorf(quorate.Invalid, "transfer: %w", err)
		}
		return nil, n.transfer(ctx, t)
	})
	n.port.Handle(methodControl, func(_ context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		var r controlRequest
		if err := json.Unmarshal(request, &r); err != nil {
			return nil, quorate.Errorf(quorate.Invalid, "control: %w", err)
		}
		data, err := n.control(r)
		if err != nil {
			return nil, err
		}
		return json.Marshal(data)
	})
	n.port.Handle(methodReplicas, func(_ context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		var set quorate.ReplicaSetID
		if err := json.Unmarshal(request, &set); err != nil {
			return nil, quorate.Errorf(quorate.Invalid, "replicas: %w", err)
		}
		return json.Marshal(n.replicaStatuses(set))
	})
	n.port.Handle(methodChecksums, func(ctx context.Context, _ quorate.NodeID, request []byte) ([]byte, error) {
		var set quorate.ReplicaSetID
		if err := json.Unmarshal(request, &set); err != nil {
			return nil, quorate.Errorf(quorate.Invalid, "checksums: %w", err)
		}
		list, err := n.checksums(ctx, set)
		if err != nil {
			return nil, err
		}
		return json.Marshal(list)
	})
}

// askBeats asks a node for the heartbeats that it has heard.
func (n *Node) askBeats(ctx context.Context, node quorate.NodeID) (beats []metasvc.Heartbeat) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := n.port.Call(ctx, node, methodBeats, nil)
	if err != nil {
		n.logger.Debug("heartbeats are not known", "node", node, "err", err)
		return nil
	}
	var encoded []agedBeat
	if err := json.Unmarshal(answer, &encoded); err != nil {
		n.logger.Warn("heartbeats cannot be read", "node", node, "err", err)
		return nil
	}
	for _, b := range encoded {
		beat, err := metasvc.DecodeHeartbeat(b.Beat)
		if err != nil {
			n.logger.Warn("heartbeat cannot be read", "node", node, "err", err)
			continue
		}
		beat.Received = time.Now().Add(-b.Age)
		beats = append(beats, beat)
	}
	return beats
}

// agedBeat is an encoded heartbeat and how long ago it was heard.
type agedBeat struct {
	Beat []byte        `json:"beat"`
	Age  time.Duration `json:"age"`
}

type transferRequest struct {
	Set     quorate.ReplicaSetID `json:"set"`
	Replica quorate.ReplicaID    `json:"replica"`
}

// transfer hands the leadership of a set, which this node leads, to another
// replica.
func (n *Node) transfer(ctx context.Context, t transferRequest) error {
	group, open := n.host.Group(t.Set)
	if !open {
		return quorate.Errorf(quorate.NotFound, "set %d is not open on node %s", t.Set, n.identity.Node.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, transferTimeout)
	defer cancel()
	return group.TransferLeadership(ctx, t.Replica)
}

// transfer asks the node that leads a set to hand it over.
func (a *clusterAdmin) transfer(r *http.Request) (any, error) {
	var t transferRequest
	var err error
	if t.Set, err = parseNumber[quorate.ReplicaSetID](r, "set"); err != nil {
		return nil, err
	}
	if t.Replica, err = parseNumber[quorate.ReplicaID](r, "replica"); err != nil {
		return nil, err
	}
	set := a.client.Map().Set(t.Set)
	if set == nil {
		return nil, quorate.Errorf(quorate.NotFound, "set %d does not exist", t.Set)
	}
	if !set.HasMember(t.Replica) {
		return nil, quorate.Errorf(quorate.NotFound, "set %d has no replica %d; it has %s", t.Set, t.Replica, listedMembers(set.Members))
	}
	done := transferred{Set: t.Set, Replica: t.Replica}
	leader, ok := a.leaderOf(r.Context(), t.Set)
	switch {
	case !ok:
		return nil, quorate.Errorf(quorate.Unavailable, "nobody is known to lead set %d", t.Set)
	case leader.Replica == t.Replica:
		done.Already = true
		return done, nil
	case leader.Node == a.node.identity.Node:
		err = a.node.transfer(r.Context(), t)
	default:
		var request []byte
		if request, err = json.Marshal(t); err == nil {
			_, err = a.node.port.Call(r.Context(), leader.Node, methodTransfer, request)
		}
	}
	if err != nil {
		return nil, err
	}
	return done, nil
}

// transferred is what POST /api/v1/admin/sets/transfer answers.
type transferred struct {
	Set     quorate.ReplicaSetID `json:"set"`
	Replica quorate.ReplicaID    `json:"replica"`
	// Already tells that the replica led before.
	Already bool `json:"already,omitempty"`
}

// leaderOf is which replica of a set says that it leads, in the newest term.
func (a *clusterAdmin) leaderOf(ctx context.Context, set quorate.ReplicaSetID) (leader metasvc.Member, ok bool) {
	term := uint64(0)
	for _, r := range a.gatherReplicas(ctx, set, nil) {
		if r.Leader && r.Term >= term {
			leader, term, ok = metasvc.Member{Node: r.on, Replica: r.Replica}, r.Term, true
		}
	}
	return leader, ok
}

func listedMembers(members []metasvc.Member) string {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = listedMember(m)
	}
	return strings.Join(names, ", ")
}

// replicaChecksum is what one replica holds.
type replicaChecksum struct {
	Set      quorate.ReplicaSetID `json:"set"`
	Replica  quorate.ReplicaID    `json:"replica"`
	Node     string               `json:"node"`
	Applied  uint64               `json:"applied_index"`
	Samples  uint64               `json:"samples"`
	Checksum string               `json:"checksum"`
	// Sealed tells that the checksum is that of the set's seal, not reckoned now.
	Sealed bool   `json:"sealed,omitempty"`
	Error  string `json:"error,omitempty"`
}

// checksums are those of this node's replicas that are open: of one set, or of
// all where set is 0. That of an open set is over its samples at the index; two
// replicas at one index must agree. That of a sealed one is what was sealed.
func (n *Node) checksums(ctx context.Context, set quorate.ReplicaSetID) ([]replicaChecksum, error) {
	list := []replicaChecksum{}
	for _, s := range n.replicas.Sets() {
		if set != 0 && s.Record.ID != set {
			continue
		}
		c := replicaChecksum{Set: s.Record.ID, Replica: s.Replica, Node: n.identity.Node.Name}
		switch replica, err := n.open.Get(s.Record.ID); {
		case err != nil:
			c.Error = err.Error()
		case replica.Sealed() != nil:
			file := replica.Sealed().File()
			c.Samples, c.Checksum = file.Samples, hex.EncodeToString(s.Record.Sealed.Checksum[:])
			c.Applied, c.Sealed = s.Record.Sealed.Index, true
		default:
			if err := c.of(ctx, replica.Shard()); err != nil {
				c.Error = err.Error()
			}
		}
		list = append(list, c)
	}
	return list, ctx.Err()
}

func (c *replicaChecksum) of(ctx context.Context, shard *tsdbshard.Shard) error {
	view, err := shard.View()
	if err != nil {
		return err
	}
	defer view.Close()
	sum, samples, err := tsdbshard.ChecksumView(ctx, view)
	if err != nil {
		return err
	}
	c.Applied, c.Samples, c.Checksum = view.AppliedIndex(), samples, hex.EncodeToString(sum[:])
	return nil
}

// checksums lists those of this node's replicas.
func (a *clusterAdmin) checksums(r *http.Request) (any, error) {
	return a.node.checksums(r.Context(), 0)
}

// setChecksums asks all nodes that have a replica of a set for its checksum.
func (a *clusterAdmin) setChecksums(r *http.Request) (any, error) {
	id, err := parseNumber[quorate.ReplicaSetID](r, "set")
	if err != nil {
		return nil, err
	}
	set := a.client.Map().Set(id)
	if set == nil {
		return nil, quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
	}
	lists := make([][]replicaChecksum, len(set.Members))
	var wait sync.WaitGroup
	for i, m := range set.Members {
		wait.Go(func() {
			list, err := a.node.askChecksums(r.Context(), m.Node, id)
			if err != nil {
				list = []replicaChecksum{{Set: id, Replica: m.Replica, Node: m.Node.Name, Error: err.Error()}}
			} else if len(list) == 0 {
				list = []replicaChecksum{{Set: id, Replica: m.Replica, Node: m.Node.Name, Error: "its node does not have it yet"}}
			}
			lists[i] = list
		})
	}
	wait.Wait()
	all := []replicaChecksum{}
	for _, list := range lists {
		all = append(all, list...)
	}
	return all, nil
}

func (n *Node) askChecksums(ctx context.Context, node quorate.NodeID, set quorate.ReplicaSetID) (list []replicaChecksum, err error) {
	if node == n.identity.Node {
		return n.checksums(ctx, set)
	}
	request, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	answer, err := n.port.Call(ctx, node, methodChecksums, request)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, fmt.Errorf("checksums of node %s: %w", node.Name, err)
	}
	return list, nil
}
