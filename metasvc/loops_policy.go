package metasvc

import (
	"fmt"
	"slices"
)

// planPolicy wants the default policy founded as this node is configured. Later it
// is altered by that only while there is one node: of several, each has a file of its
// own, and whichever happens to lead must not make its file the cluster's policy.
func planPolicy(cfg ControllerConfig, v view) []Action {
	want := cfg.DefaultPolicy
	p := v.state.policyNamed(want.Name)
	switch {
	case v.state.cluster == nil:
		return nil
	case p == nil:
		return []Action{action(LoopPolicy, fmt.Sprintf("create policy %q", want.Name), CreatePolicy{Policy: want})}
	case !p.PolicySpec.equal(want) && v.state.nodesInCluster() == 1:
		return []Action{action(LoopPolicy, fmt.Sprintf("alter policy %q to what is configured", want.Name),
			AlterPolicy{ID: p.ID, Policy: want, Term: v.term, Now: v.now.UnixMilli()})}
	}
	return nil
}

// nodesInCluster counts the nodes that were not removed.
func (s *state) nodesInCluster() (n int) {
	for _, node := range s.nodes {
		if node.State != NodeRemoved {
			n++
		}
	}
	return n
}

// differing names the settings of this node by which the default policy would say
// something else than it does, in a cluster of several nodes, where they do nothing.
func differing(want PolicySpec, s *state) (settings []string) {
	p := s.policyNamed(want.Name)
	if p == nil || s.nodesInCluster() < 2 {
		return nil
	}
	for _, setting := range []struct {
		name    string
		differs bool
	}{
		{"buckets.span", want.Span != p.Span},
		{"buckets.shards", want.Shards != p.Shards},
		{"buckets.replicas", want.Replicas != p.Replicas},
		{"buckets.late_window", want.LateWindow != p.LateWindow},
		{"buckets.retention", want.Retention != p.Retention},
		{"buckets.future_bound", want.FutureBound != p.FutureBound},
	} {
		if setting.differs {
			settings = append(settings, setting.name)
		}
	}
	return settings
}

// noteDiffering warns once of settings that differ from the policy.
func (c *Controller) noteDiffering(settings []string) {
	if len(settings) > 0 && !slices.Equal(settings, c.differing) {
		c.cfg.Logger.Warn("settings of this node differ from the default policy, and change nothing in a cluster of several nodes: quorate ctl policies alter does",
			"settings", settings, "policy", c.cfg.DefaultPolicy.Name)
	}
	c.differing = settings
}
