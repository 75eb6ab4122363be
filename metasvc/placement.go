package metasvc

import (
	"cmp"
	"slices"

	"github.com/quorate/quorate"
)

// fitness is what a proposer knows of the nodes besides the state. Its zero value
// knows nothing: all nodes are there and equally empty.
type fitness struct {
	// absent tells of a node that it is not to be counted on. Nil is of none.
	absent func(quorate.NodeID) bool
	// free is the space that nodes have left, in bytes, of those that say so.
	free map[quorate.NodeID]uint64
	// space is the level of those that are short of it.
	space map[quorate.NodeID]Space
}

// freeSteps is in how many steps free space is told apart: nodes that differ by
// less than a tenth of the emptiest one's are alike.
const freeSteps = 10

// candidate is a node that replicas may lie on.
type candidate struct {
	node  *Node
	space Space
	// weight is the node's free space, 1 to freeSteps, in parts of the most that
	// any candidate has.
	weight   int
	taken    int // replicas given out in this placement
	leads    int // preferred leaders given out in this placement
	replicas int // replicas at all
	leaders  int // preferred leaders of sets that have a leader
	shard    int // the last shard that got a replica here, plus one
}

// compareShare compares what nodes would have of this placement with one replica
// more, by the space they have.
func compareShare(a, b *candidate) int {
	return cmp.Compare((a.taken+1)*b.weight, (b.taken+1)*a.weight)
}

// candidates returns the nodes that may get replicas of a policy, in the order of
// their admission.
func (s *state) candidates(p *Policy, fit fitness) (list []*candidate) {
	most := uint64(0)
	for _, n := range s.nodesByNumber() {
		if n.Roles&RoleData == 0 || n.State != NodeActive || len(p.Zones) > 0 && !slices.Contains(p.Zones, n.Zone) ||
			fit.absent != nil && fit.absent(n.ID) {
			continue
		}
		list = append(list, &candidate{node: n})
		most = max(most, fit.free[n.ID])
	}
	replicas, leaders := s.load()
	for _, c := range list {
		c.replicas, c.leaders = replicas[c.node.ID], leaders[c.node.ID]
		c.space, c.weight = fit.space[c.node.ID], freeSteps
		if free, known := fit.free[c.node.ID]; known {
			// Rounded up: the emptiest has all steps, a full one has one.
			c.weight = max(1, int((float64(free)/float64(most))*freeSteps+0.999))
		}
	}
	return list
}

// place chooses for each shard of a new bucket the nodes of its replicas: on
// distinct nodes, those that are short of space only where there are no others,
// since without a bucket there would be no writes at all; spread over as many
// zones as there are; of those first the nodes that have the least of this bucket for the space they have left, then
// those that have the least at all. The first of a shard's nodes is the preferred
// leader, which are spread as well. It moves nothing.
func (s *state) place(p *Policy, fit fitness) ([][]quorate.NodeID, error) {
	list := s.candidates(p, fit)
	if len(list) < p.Replicas {
		return nil, quorate.Errorf(quorate.Unavailable, "policy %q wants %d replicas on distinct data nodes, and only %d fit", p.Name, p.Replicas, len(list))
	}
	placement := make([][]quorate.NodeID, p.Shards)
	zones := make(map[string]int)
	chosen := make([]*candidate, p.Replicas)
	for shard := range placement {
		clear(zones)
		for i := range chosen {
			best := slices.MinFunc(list, func(a, b *candidate) int {
				if taken := cmp.Compare(a.takenBy(shard), b.takenBy(shard)); taken != 0 {
					return taken
				}
				return cmp.Or(
					cmp.Compare(a.space, b.space),
					cmp.Compare(zones[a.node.Zone], zones[b.node.Zone]),
					compareShare(a, b),
					cmp.Compare(a.replicas, b.replicas),
					cmp.Compare(a.node.Number, b.node.Number),
				)
			})
			best.shard = shard + 1
			best.taken++
			best.replicas++
			zones[best.node.Zone]++
			chosen[i] = best
		}
		leader := slices.MinFunc(chosen, func(a, b *candidate) int {
			return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.leads, b.leads), cmp.Compare(a.leaders, b.leaders), cmp.Compare(a.node.Number, b.node.Number))
		})
		leader.leads++
		leader.leaders++
		placement[shard] = append(placement[shard], leader.node.ID)
		for _, c := range chosen {
			if c != leader {
				placement[shard] = append(placement[shard], c.node.ID)
			}
		}
	}
	return placement, nil
}

// takenBy is 1 when the node has a replica of the shard already, else 0.
func (c *candidate) takenBy(shard int) int {
	if c.shard == shard+1 {
		return 1
	}
	return 0
}

// load counts the replicas on each node, those that join among them, and the
// preferred leaders of sets that have one.
func (s *state) load() (replicas, leaders map[quorate.NodeID]int) {
	replicas, leaders = make(map[quorate.NodeID]int), make(map[quorate.NodeID]int)
	for _, set := range s.sets {
		if set.State == ReplicaSetDropping {
			continue
		}
		for _, m := range set.Members {
			replicas[m.Node]++
		}
		if add, _, underWay := set.memberChange(); underWay && add.Replica != 0 {
			replicas[add.Node]++
		}
		if set.State == ReplicaSetForming || set.State == ReplicaSetOpen {
			leaders[set.Members[0].Node]++
		}
	}
	return replicas, leaders
}
