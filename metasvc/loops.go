package metasvc

import (
	"fmt"
	"time"

	"github.com/quorate/quorate"
)

// The names of the Controller's loops, in the order in which they run.
const (
	// LoopCluster records the cluster, and this node as it is configured.
	LoopCluster = "cluster"
	// LoopPolicy keeps the default policy as it is configured.
	LoopPolicy = "policy"
	// LoopBuckets keeps buckets planned ahead of the clock (PROTOCOL 10).
	LoopBuckets = "buckets"
	// LoopEffect makes pending buckets effective (PROTOCOL 8).
	LoopEffect = "effect"
)

// view is what a loop decides on.
type view struct {
	state *state
	now   time.Time
	// leadingSince is when this node began to lead.
	leadingSince time.Time
	beats        []Heartbeat
}

// loop is one reconcile loop: a pure function from what is to what to change.
// It is asked again after its actions, until it wants none. It must not keep
// the view's state.
type loop struct {
	name string
	plan func(view) ([]Action, error)
}

func loops(cfg ControllerConfig) []loop {
	return []loop{
		{LoopCluster, func(v view) ([]Action, error) { return planCluster(cfg, v), nil }},
		{LoopPolicy, func(v view) ([]Action, error) { return planPolicy(cfg.DefaultPolicy, v), nil }},
		{LoopBuckets, planBuckets},
		{LoopEffect, func(v view) ([]Action, error) { return planEffect(cfg.Node.ID, v), nil }},
	}
}

func planCluster(cfg ControllerConfig, v view) []Action {
	s := v.state
	if s.cluster == nil {
		return []Action{{LoopCluster, "record the new cluster", Bootstrap{
			Cluster:     cfg.Cluster,
			Created:     v.now.UnixMilli(),
			Node:        cfg.Node,
			MetaReplica: cfg.MetaReplica,
		}}}
	}
	if known := s.nodes[cfg.Node.ID]; known == nil || known.NodeSpec != cfg.Node {
		return []Action{{LoopCluster, fmt.Sprintf("record node %s as it is configured", cfg.Node.ID), AdmitNode{Node: cfg.Node}}}
	}
	return nil
}

func planPolicy(want PolicySpec, v view) []Action {
	p := v.state.policyNamed(want.Name)
	switch {
	case v.state.cluster == nil:
		return nil
	case p == nil:
		return []Action{{LoopPolicy, fmt.Sprintf("create policy %q", want.Name), CreatePolicy{Policy: want}}}
	case !p.PolicySpec.equal(want):
		return []Action{{LoopPolicy, fmt.Sprintf("alter policy %q to what is configured", want.Name), AlterPolicy{ID: p.ID, Policy: want}}}
	}
	return nil
}

// planBuckets wants one missing bucket of each policy; the next one's range
// depends on it. A policy whose buckets cannot be placed does not keep the
// others' from being planned.
func planBuckets(v view) (actions []Action, err error) {
	var failed error
	for _, p := range byKey(v.state.policies) {
		ts, missing := v.state.missing(p, v.now)
		if !missing {
			continue
		}
		command, err := v.state.planBucket(p, ts, v.now)
		if err != nil {
			failed = err
			continue
		}
		actions = append(actions, Action{LoopBuckets, fmt.Sprintf("plan bucket %v of policy %q", command.Range, p.Name), command})
	}
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, failed
}

// planEffect wants the pending buckets effective that all nodes know of. It
// does not wait for their sets to be formed: both are needed for a bucket to
// open, in either order.
func planEffect(self quorate.NodeID, v view) (actions []Action) {
	nodes := v.state.nodesByNumber()
	for _, b := range byKey(v.state.buckets) {
		if b.Pending && acknowledged(nodes, self, v.beats, b.Planned, v.leadingSince, v.now) {
			actions = append(actions, Action{LoopEffect, fmt.Sprintf("make bucket %d %v effective", b.ID, b.Range), EffectBucket{Bucket: b.ID}})
		}
	}
	return actions
}
