package metasvc

import (
	"math"
	"slices"

	"github.com/quorate/quorate"
)

// The apply methods are the state machine. Each judges its command in full
// before its first put, so that a refusal leaves no trace.

func (c Bootstrap) apply(s *state, _ uint64) any {
	if s.cluster != nil {
		if s.cluster.ID == c.Cluster {
			return BootstrapResult{Index: s.index, Cluster: c.Cluster}
		}
		return refuse(ReasonConflict, "cluster %s cannot be made: this is cluster %s", c.Cluster, s.cluster.ID)
	}
	if c.Cluster.IsZero() {
		return refuse(ReasonInvalid, "cluster id is zero")
	}
	if c.MetaReplica == 0 {
		return refuse(ReasonInvalid, "replica id of the metadata group is zero")
	}
	if r := c.Node.check(); r != nil {
		return r
	}
	s.last.replica = uint64(c.MetaReplica)
	s.putCluster(&Cluster{
		ID:      c.Cluster,
		Created: c.Created,
		Meta:    []Member{{Node: c.Node.ID, Replica: c.MetaReplica}},
	})
	s.last.node++
	s.putNode(&Node{NodeSpec: c.Node, Number: s.last.node, State: NodeActive})
	return BootstrapResult{Index: s.index, Cluster: c.Cluster}
}

func (c AdmitNode) apply(s *state, _ uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	if r := c.Node.check(); r != nil {
		return r
	}
	known := s.nodes[c.Node.ID]
	switch {
	case known == nil:
		s.last.node++
		s.putNode(&Node{NodeSpec: c.Node, Number: s.last.node, State: NodeActive})
	case known.State == NodeRemoved:
		return refuse(ReasonConflict, "node %s was removed from the cluster: it joins only with an empty data directory, as another node", c.Node.ID)
	case known.NodeSpec != c.Node:
		s.putNode(&Node{NodeSpec: c.Node, Number: known.Number, State: known.State})
	}
	return AdmitNodeResult{Index: s.index, Number: s.nodes[c.Node.ID].Number}
}

func (c CreatePolicy) apply(s *state, _ uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	if r := c.Policy.check(); r != nil {
		return r
	}
	if p := s.policyNamed(c.Policy.Name); p != nil {
		if p.PolicySpec.equal(c.Policy) {
			return PolicyResult{Index: s.index, Policy: p.ID}
		}
		return refuse(ReasonConflict, "policy %q exists with other settings", c.Policy.Name)
	}
	if len(s.policies) >= MaxPolicies {
		return refuse(ReasonLimit, "policy %q would be one more than the %d there may be", c.Policy.Name, MaxPolicies)
	}
	s.last.policy++
	p := &Policy{PolicySpec: c.Policy, ID: quorate.PolicyID(s.last.policy), Horizon: NoHorizon}
	s.putPolicy(p)
	return PolicyResult{Index: s.index, Policy: p.ID, Created: true}
}

func (c AlterPolicy) apply(s *state, term uint64) any {
	p := s.policies[c.ID]
	switch {
	case p == nil:
		return refuse(ReasonNotFound, "policy %d does not exist", c.ID)
	case c.Term != term:
		return refuse(ReasonOutdated, "policy %q: its change was decided in term %d, this is term %d", p.Name, c.Term, term)
	case c.Now < 0 || c.Now > maxClock:
		return refuse(ReasonInvalid, "policy %q: a clock at %s cannot alter it", p.Name, quorate.FormatTime(c.Now))
	}
	if r := c.Policy.check(); r != nil {
		return r
	}
	if c.Policy.Name != p.Name {
		return refuse(ReasonInvalid, "policy %q cannot be renamed to %q", p.Name, c.Policy.Name)
	}
	if !p.PolicySpec.equal(c.Policy) {
		changed := *p
		changed.PolicySpec = c.Policy
		if c.Policy.FutureBound < p.FutureBound {
			changed.Reach = max(p.Reach, p.reach(c.Now))
		}
		s.putPolicy(&changed)
	}
	return PolicyResult{Index: s.index, Policy: p.ID}
}

func (c CreateTenant) apply(s *state, _ uint64) any {
	if s.cluster == nil {
		return refuseNoCluster()
	}
	if err := quorate.ValidateTenantName(c.Name); err != nil {
		return refuse(ReasonInvalid, "%v", err)
	}
	if t := s.tenantByName[c.Name]; t != nil {
		return TenantResult{Index: s.index, Tenant: t.ID}
	}
	if s.policies[c.Policy] == nil {
		return refuse(ReasonNotFound, "tenant %q: policy %d does not exist", c.Name, c.Policy)
	}
	s.last.tenant++
	t := &Tenant{
		ID:         quorate.TenantID(s.last.tenant),
		Name:       c.Name,
		Placements: []Placement{{Policy: c.Policy, From: math.MinInt64}},
		Created:    c.Created,
	}
	s.putTenant(t)
	return TenantResult{Index: s.index, Tenant: t.ID, Created: true}
}

func (c MoveTenant) apply(s *state, _ uint64) any {
	t := s.tenants[c.Tenant]
	if t == nil {
		return refuse(ReasonNotFound, "tenant %d does not exist", c.Tenant)
	}
	if s.policies[c.Policy] == nil {
		return refuse(ReasonNotFound, "tenant %d: policy %d does not exist", c.Tenant, c.Policy)
	}
	old := t.Placements[len(t.Placements)-1]
	if old.Policy == c.Policy {
		// Moved there already: by this command, if an unknown outcome made the
		// proposer send it twice.
		return TenantResult{Index: s.index, Tenant: t.ID}
	}
	if len(t.Placements) >= maxPlacements {
		return refuse(ReasonLimit, "tenant %d was moved %d times, the most there may be", t.ID, maxPlacements-1)
	}
	if c.From <= old.From {
		return refuse(ReasonInvalid, "tenant %d: a move at %s does not lie after the last one at %s",
			t.ID, quorate.FormatTime(c.From), quorate.FormatTime(old.From))
	}
	if planned := s.bucketsOf[old.Policy]; len(planned) > 0 && c.From < planned[len(planned)-1].Range.End {
		return refuse(ReasonInvalid, "tenant %d: a move at %s lies before %s, the end of the last planned bucket of its policy %d",
			t.ID, quorate.FormatTime(c.From), quorate.FormatTime(planned[len(planned)-1].Range.End), old.Policy)
	}
	moved := *t
	moved.Placements = append(slices.Clone(t.Placements), Placement{Policy: c.Policy, From: c.From})
	s.putTenant(&moved)
	return TenantResult{Index: s.index, Tenant: t.ID}
}

func (c DeleteTenant) apply(s *state, _ uint64) any {
	t := s.tenants[c.Tenant]
	if t == nil {
		return refuse(ReasonNotFound, "tenant %d does not exist", c.Tenant)
	}
	s.removeTenant(t)
	return DeleteTenantResult{Index: s.index}
}

func refuseNoCluster() *Refusal {
	return refuse(ReasonNoCluster, "no cluster is recorded yet")
}
