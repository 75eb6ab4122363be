package metasvc

import (
	"errors"
	"fmt"
)

// The names of the Controller's loops, in the order in which they run.
const (
	// LoopCluster records the cluster, and this node as it is configured.
	LoopCluster = "cluster"
	// LoopPolicy founds the default policy as it is configured, and keeps it so
	// while the cluster has one node.
	LoopPolicy = "policy"
	// LoopBuckets keeps buckets planned ahead of the clock (PROTOCOL 10).
	LoopBuckets = "buckets"
	// LoopRetention drops buckets past their policy's retention (PROTOCOL 16).
	LoopRetention = "retention"
	// LoopSeal begins to seal the sets whose time has come (PROTOCOL 14).
	LoopSeal = "seal"
	// LoopJudge judges what the replicas report of their sets' seals.
	LoopJudge = "judge"
	// LoopBounds tells sets of their bucket's cut that could not be told at once
	// (PROTOCOL 13).
	LoopBounds = "bounds"
	// LoopRepair replaces replicas that are lost, and has overlays follow their
	// base.
	LoopRepair = "repair"
	// LoopDrain moves replicas away from nodes that are to be removed.
	LoopDrain = "drain"
	// LoopMeta keeps the metadata group at its size.
	LoopMeta = "meta"
	// LoopEffect makes effective what every node knows of (PROTOCOL 8).
	LoopEffect = "effect"
)

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
		{LoopPolicy, func(v view) ([]Action, error) { return planPolicy(cfg, v), nil }},
		{LoopBuckets, planBuckets},
		{LoopRetention, planRetention},
		{LoopSeal, planSeal},
		{LoopJudge, func(v view) ([]Action, error) { return planJudge(v), nil }},
		{LoopBounds, func(v view) ([]Action, error) { return planBounds(v), nil }},
		{LoopRepair, func(v view) ([]Action, error) { return planRepair(cfg, v) }},
		{LoopDrain, func(v view) ([]Action, error) { return planDrain(cfg, v) }},
		{LoopMeta, func(v view) ([]Action, error) { return planMeta(cfg, v) }},
		{LoopEffect, func(v view) ([]Action, error) { return planEffect(v), nil }},
	}
}

func planCluster(cfg ControllerConfig, v view) []Action {
	s := v.state
	if s.cluster == nil {
		return []Action{{Loop: LoopCluster, Why: "record the new cluster", Command: Bootstrap{
			Cluster:     cfg.Cluster,
			Created:     v.now.UnixMilli(),
			Node:        cfg.Node,
			MetaReplica: cfg.MetaReplica,
		}}}
	}
	if known := s.nodes[cfg.Node.ID]; known == nil || known.NodeSpec != cfg.Node {
		return []Action{action(LoopCluster, fmt.Sprintf("record node %s as it is configured", cfg.Node.ID), AdmitNode{Node: cfg.Node})}
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
		command, err := v.state.planBucket(p, ts, v.now, v.fitness())
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		actions = append(actions, action(LoopBuckets, fmt.Sprintf("plan bucket %v of policy %q", command.Range, p.Name), command))
	}
	if len(actions) > 0 {
		return actions, nil // what failed fails again when these are done
	}
	return nil, failed
}

// planEffect wants effective what all nodes know of. It does not wait for a
// planned bucket's sets to be formed: both are needed for a bucket to open, in
// either order. An overlay is announced only when it is formed.
func planEffect(v view) (actions []Action) {
	known := v.knownEverywhere()
	effect := func(why string, announced uint64, c Command) {
		if announced <= known {
			actions = append(actions, action(LoopEffect, why, c))
		}
	}
	for _, b := range byKey(v.state.buckets) {
		switch {
		case !b.Pending:
		case b.State == BucketDropping:
			effect(fmt.Sprintf("drop the sets of bucket %d %v", b.ID, b.Range), b.Announced, EffectDrop{Bucket: b.ID})
		default:
			effect(fmt.Sprintf("make bucket %d %v effective", b.ID, b.Range), b.Announced, EffectBucket{Bucket: b.ID})
		}
	}
	for _, set := range byKey(v.state.sets) {
		switch {
		case !set.Pending || set.State == ReplicaSetForming || v.state.buckets[set.Bucket].State == BucketDropping:
		case set.State == ReplicaSetSealed:
			effect(fmt.Sprintf("drop set %d, which an overlay has replaced", set.ID), set.Announced, EffectSet{Set: set.ID, Announced: set.Announced})
		default:
			effect(fmt.Sprintf("make overlay %d effective", set.ID), set.Announced, EffectSet{Set: set.ID, Announced: set.Announced})
		}
	}
	for _, d := range byKey(v.state.deletions) {
		if d.Pending {
			effect(fmt.Sprintf("make deletion %d effective", d.ID), d.Announced, EffectDelete{Deletion: d.ID})
		}
	}
	return actions
}

// hasPending tells whether anything waits for every node to know of it
// (PROTOCOL 8).
func (s *state) hasPending() bool {
	for _, b := range s.buckets {
		if b.Pending {
			return true
		}
	}
	for _, set := range s.sets {
		if set.Pending && set.State != ReplicaSetForming {
			return true
		}
	}
	for _, d := range s.deletions {
		if d.Pending {
			return true
		}
	}
	return false
}
