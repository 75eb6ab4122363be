package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/lifecycle"
	"github.com/quorate/quorate/internal/metalink"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

const (
	// firstMetaReplica is the founder's replica of the metadata group: its
	// genesis comes before there is a log that could mint a number.
	firstMetaReplica quorate.ReplicaID = 1
	// beatEvery is how often the metadata leader hears of a node.
	beatEvery = time.Second
	// joinMetaAgain is the pause before a node tries again to make its replica of
	// the metadata group.
	joinMetaAgain = time.Second
	// removedTimeout bounds how long a start asks others whether its replica of
	// the metadata group is one still.
	removedTimeout = 4 * time.Second
	// leaderlessFor is how long the replica may be without a leader before others
	// are asked that while it runs.
	leaderlessFor = 5 * time.Second
)

// metaService is this node's part of the metadata service: the way to the
// metadata group, the client that everyone here reads through, and, where the
// node has a replica of the group, that. The client's state machine follows
// another: the replica's or, where there is none, another node's.
type metaService struct {
	link    *metalink.Link
	client  *metasvc.Client
	beats   *metasvc.Heartbeats
	replica *metaReplica                  // nil where there is none; belongs to run, and to close after it
	here    atomic.Pointer[raftset.Group] // the replica's group, for whoever asks meanwhile
	// left is the newest replica here that was removed from the group, 0 is none.
	// It belongs to run, and to start before it.
	left quorate.ReplicaID
}

// metaReplica is a replica of the metadata group with the controller that acts
// while it leads.
type metaReplica struct {
	group      *raftset.Group
	controller *metasvc.Controller
	metrics    *passingMetrics // of the controller
}

// openMeta opens the metadata service, with the replica that the node has.
// Known are metadata nodes that were met on the way into the cluster.
func (n *Node) openMeta(ctx context.Context, known []metalink.MetaNode) (_ *metaService, err error) {
	s := &metaService{beats: &metasvc.Heartbeats{Now: n.options.Now}}
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	var client atomic.Pointer[metasvc.Client] // the link and the client know each other
	s.link, err = metalink.Open(metalink.Config{
		Self: n.identity.Node, Port: n.port, Greeter: n.greeter, Machine: machine,
		Map: func() *metasvc.Map {
			if c := client.Load(); c != nil {
				return c.Map()
			}
			return nil
		},
		Meta: known, Addresses: n.joinAddresses(), Beats: s.beats,
		Logger: n.logger, Registerer: n.options.Registry,
	})
	if err != nil {
		return nil, err
	}
	s.client, err = metasvc.OpenClient(ctx, metasvc.ClientConfig{
		StateMachine: machine,
		Leader:       s.link,
		Dir:          filepath.Join(n.settings.DataDir, metaDirName),
		Cluster:      n.identity.Cluster,
		Now:          n.options.Now,
		Logger:       n.logger,
		Registerer:   n.options.Registry,
	})
	if err != nil {
		return nil, err
	}
	n.metaOf.Store(s) // from here on addresses are known
	if err := n.openMetaReplica(ctx, s); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// openMetaReplica opens the replica of the metadata group that the node has, if
// it is still one of the group's.
func (n *Node) openMetaReplica(ctx context.Context, s *metaService) error {
	replica := n.identity.MetaReplica
	if replica == 0 {
		return nil
	}
	if n.metaReplicaRemoved(ctx, s) {
		n.logger.Warn("this node's metadata replica was removed from its group while the node was away", "replica", replica)
		s.left = replica
		return n.identity.holdMeta(n.settings.DataDir, 0)
	}
	if err := n.formMeta(ctx); err != nil {
		return err
	}
	err := n.startMetaReplica(ctx, s, replica)
	if errors.Is(err, raftset.ErrNotFormed) && replica != firstMetaReplica && !votes(s.client.Map().Cluster, replica) {
		// It was noted and never made, and so has never voted.
		n.logger.Warn("this node's metadata replica was never made", "replica", replica)
		return n.identity.holdMeta(n.settings.DataDir, 0)
	}
	return err
}

// votes tells whether a replica is a voter by a record of the cluster, which may
// be nil.
func votes(c *metasvc.Cluster, replica quorate.ReplicaID) bool {
	return c != nil && slices.ContainsFunc(c.Meta, func(m metasvc.Member) bool { return m.Replica == replica })
}

// startMetaReplica opens a replica that is formed, and lets the link use it.
func (n *Node) startMetaReplica(ctx context.Context, s *metaService, replica quorate.ReplicaID) error {
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	group, err := n.host.Open(ctx, quorate.MetaReplicaSet, replica, machine)
	if err != nil {
		return err
	}
	if epoch := metasvc.Epoch(machine.AppliedIndex()); epoch > 0 {
		if other, found := s.link.FindEarlierLeader(ctx, epoch); found {
			err := fmt.Errorf("node %s leads the metadata group from before the restore, which was therefore not lost: this node must not lead another (docs/operations.md, Losing the metadata)", other)
			return errors.Join(err, group.Close())
		}
	}
	metrics := &passingMetrics{Registerer: n.options.Registry}
	controller, err := n.newController(s, group, machine, metrics)
	if err != nil {
		metrics.unregister()
		return errors.Join(err, group.Close())
	}
	s.replica = &metaReplica{group: group, controller: controller, metrics: metrics}
	s.here.Store(group)
	s.link.Attach(group, machine, controller)
	return nil
}

// metaReplicaRemoved tells whether others say that this node's replica is no
// member of the metadata group any more. A member that is away when it is removed
// never hears of it from the group. Numbers are never used again, so that a record
// without the replica is final if it is newer than one that has it; any other may
// be from before the replica joined. When nobody answers the replica is taken for
// a member, since all nodes may be starting at once.
func (n *Node) metaReplicaRemoved(ctx context.Context, s *metaService) bool {
	isMember := func(c *metasvc.Cluster) bool {
		m, member := c.Replica(n.identity.Node)
		return member && m.Replica == n.identity.MetaReplica
	}
	own := s.client.Map().Cluster
	if own == nil || len(own.Meta) < 2 || !isMember(own) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, removedTimeout)
	defer cancel()
	record, err := s.link.ClusterRecord(ctx)
	return err == nil && record.ModIndex > own.ModIndex && !isMember(record)
}

func (n *Node) newController(s *metaService, group *raftset.Group, machine *metasvc.StateMachine, metrics prometheus.Registerer) (*metasvc.Controller, error) {
	return metasvc.NewController(metasvc.ControllerConfig{
		StateMachine:  machine,
		Leader:        s.link,
		Leadership:    group.Leadership,
		Cluster:       n.identity.Cluster,
		Node:          n.spec(),
		MetaReplica:   firstMetaReplica,
		MetaGroup:     metaGroup{group},
		DefaultPolicy: n.defaultPolicy(),
		Heartbeats:    s.beats.List,
		MapVersion:    func() uint64 { return s.client.Map().Version },
		Progress:      s.beats.Progress,
		ReplaceAfter:  n.settings.Cluster.ReplaceAfter,
		Now:           n.options.Now,
		Logger:        n.logger,
		Registerer:    metrics,
	})
}

// formMeta gives birth to the metadata group at its founder's first start. A
// directory in which the cluster has lived before never does that again, or a
// lost metadata log would be replaced by an empty one (PROTOCOL 16); opening
// the group then says what is missing.
func (n *Node) formMeta(ctx context.Context) error {
	if n.identity.MetaReplica != firstMetaReplica {
		return nil // it joined, and its directory was made from a seed
	}
	for _, trace := range []string{lifecycle.SetsDir, lifecycle.TrashDir, metaDirName} {
		switch entries, err := os.ReadDir(filepath.Join(n.settings.DataDir, trace)); {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			return err
		case len(entries) > 0:
			return nil
		}
	}
	return n.host.Form(ctx, raftset.Genesis{
		Set:     quorate.MetaReplicaSet,
		Replica: firstMetaReplica,
		Voters:  []raftset.Member{{Node: n.identity.Node, Replica: firstMetaReplica}},
	})
}

func (n *Node) defaultPolicy() metasvc.PolicySpec {
	return policyOf(metasvc.DefaultPolicy(), n.settings.Buckets)
}

// runMeta keeps this node's part of the metadata service going until the context
// ends: it follows the group, sends heartbeats, and runs the replica, which it
// makes when the map says that this node is to have one, and puts away when it
// was removed from the group. A node whose replica stopped by itself is of no more
// use as it is: it fails as a whole, to be started again.
func (n *Node) runMeta(ctx context.Context) {
	s := n.meta
	n.background.Go(func() { _ = s.link.Follow(ctx) })                  // returns ctx's error
	n.background.Go(func() { _ = s.link.Beat(ctx, beatEvery, n.beat) }) // likewise
	for {
		if s.replica == nil && !n.awaitMetaReplica(ctx) {
			return // the context has ended
		}
		if !n.runMetaReplica(ctx) {
			return
		}
		if err := n.leaveMeta(); err != nil {
			n.fail(fmt.Errorf("put the metadata replica away, which was removed from its group: %w", err))
			return
		}
	}
}

// runMetaReplica runs the controller of the replica until the context ends, or
// the node fails, or others say that the replica was removed: then it returns
// true.
func (n *Node) runMetaReplica(ctx context.Context) (removed bool) {
	replica := n.meta.replica
	n.controllerHere.Store(replica.controller)
	running, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	n.background.Go(func() {
		defer close(stopped)
		if err := replica.controller.Run(running); err != nil && running.Err() == nil {
			n.fail(fmt.Errorf("controller: %w", err))
		}
	})
	defer func() {
		cancel()
		<-stopped
	}()
	tick := time.NewTicker(leaderlessFor)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return false
		case <-replica.group.Failed():
			n.fail(fmt.Errorf("metadata replica stopped: %w", replica.group.Status().Broken))
			return false
		case <-tick.C:
			if n.meta.link.Replaced() || replica.group.Status().Leader.Replica == 0 && n.metaReplicaRemoved(ctx, n.meta) {
				return true
			}
		}
	}
}

// leaveMeta puts away the replica that was removed from the group, whose
// controller has ended. The node goes on without one, as a follower of others.
func (n *Node) leaveMeta() error {
	s := n.meta
	replica := n.identity.MetaReplica
	s.link.Detach()
	n.controllerHere.Store(nil)
	s.here.Store(nil)
	err := s.replica.group.Close()
	s.replica.metrics.unregister()
	s.replica, s.left = nil, replica
	if err != nil {
		return err
	}
	if err := n.identity.holdMeta(n.settings.DataDir, 0); err != nil {
		return err
	}
	n.logger.Info("this node's metadata replica was removed from its group", "replica", replica)
	return n.discardLeft()
}

// discardLeft moves the files of the replica that was removed to the trash.
func (n *Node) discardLeft() error {
	if n.meta.left == 0 {
		return nil
	}
	return n.replicas.DiscardMetadata(n.meta.left)
}

// awaitMetaReplica waits until the map wants a replica of the metadata group on
// this node, and makes it from another's seed. It returns false when the context
// ends.
func (n *Node) awaitMetaReplica(ctx context.Context) bool {
	var seen *metasvc.Map
	for {
		m, err := n.meta.client.AwaitMap(ctx, seen)
		if err != nil {
			return false
		}
		seen = m
		if m.Loaded() || m.Cluster == nil || m.Cluster.MetaJoining == nil || m.Cluster.MetaJoining.Node != n.identity.Node {
			continue
		}
		if m.Cluster.MetaJoining.Replica <= n.meta.left {
			continue // the map is from before that one was removed
		}
		err = n.joinMeta(ctx, m.Cluster.MetaJoining.Replica)
		if err == nil {
			n.logger.Info("metadata replica made", "replica", m.Cluster.MetaJoining.Replica)
			return true
		}
		n.logger.Warn("metadata replica cannot be made yet", "err", err)
		seen = nil
		timer := time.NewTimer(joinMetaAgain)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// joinMeta makes this node's replica of the metadata group. It is noted when its
// files are there: after a crash between the two, or before, nothing has opened
// them, and they are made again if the group still wants them.
func (n *Node) joinMeta(ctx context.Context, replica quorate.ReplicaID) error {
	seed, err := n.meta.link.Seed(ctx)
	if err != nil {
		return err
	}
	if err := n.host.Join(ctx, quorate.MetaReplicaSet, replica, seed); err != nil {
		return err
	}
	if err := n.identity.holdMeta(n.settings.DataDir, replica); err != nil {
		return err
	}
	return n.startMetaReplica(ctx, n.meta, replica)
}

// close closes the client, which writes its copy of the map, before the group
// whose state it copies.
func (s *metaService) close() error {
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.Close())
	}
	if s.replica != nil {
		errs = append(errs, s.replica.group.Close())
	}
	return errors.Join(errs...)
}

// metaGroup is the metadata group as the controller wants to see it.
type metaGroup struct{ *raftset.Group }

// Voters are the members that vote.
func (g metaGroup) Voters() []metasvc.Member { return membersOf(g.Configuration().Voters) }

// Learners are the members that do not.
func (g metaGroup) Learners() []metasvc.Member { return membersOf(g.Configuration().Learners) }

// AddLearner adds a member that does not vote.
func (g metaGroup) AddLearner(ctx context.Context, m metasvc.Member) error {
	return g.Group.AddLearner(ctx, raftset.Member(m))
}

// Remove removes a member.
func (g metaGroup) Remove(ctx context.Context, replica quorate.ReplicaID) error {
	return g.RemoveMember(ctx, replica)
}

func membersOf(list []raftset.Member) []metasvc.Member {
	members := make([]metasvc.Member, len(list))
	for i, m := range list {
		members[i] = metasvc.Member(m)
	}
	return members
}
