package simulation

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// oldestSeed is how long a newcomer waits at most before it joins by a seed.
const oldestSeed = 5 * time.Second

// process is one life of a node.
type process struct {
	node *node
	life int // of the node, from 1
	dir  string
	port *port
	host *raftset.Host
	// opening are those who make or open a replica in it. Only who holds the
	// node's turn adds one, and only to the process that runs.
	opening sync.WaitGroup
	// hung is told when a write was stuck for too long.
	hung chan struct{}
	// gone is closed when the process ends, in order or not.
	gone chan struct{}
	// old has the files as they were, for the mutant that forgets.
	old string

	// Guarded by node.mu.

	// replicas are those that are open.
	replicas map[quorate.ReplicaSetID]*replica
	// killed tells that the process is no more and whatever it still says has
	// not been heard by anybody.
	killed bool
}

// replica is a node's of one set, as long as its process lives.
type replica struct {
	*process
	set   *replicaSet
	shard *tsdbshard.Shard
	group *raftset.Group
}

// boot makes a process without a replica. The turn is the caller's.
func (n *node) boot() (*process, error) {
	n.lives++
	p := &process{
		node: n, life: n.lives, dir: n.dir, replicas: make(map[quorate.ReplicaSetID]*replica),
		hung: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	p.port = newPort(n.sim.network, n.id)
	var err error
	p.host, err = raftset.NewHost(raftset.HostConfig{
		Dir: filepath.Join(n.dir, "raft"), Node: n.id, Messenger: p.port, Fetch: p.fetch,
		LogStore: n.disk.logs(), SegmentBytes: segmentBytes, TrailingBytes: n.sim.trailing,
		ReadLease: n.sim.readLease, HeartbeatTimeout: n.patience(),
		Logger: n.sim.trace.logger(n.String()), Registerer: n.sim.registry(),
		Fatal: func(reason error) {
			n.sim.trace.add("%s: %v", n, reason)
			select {
			case p.hung <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", n, err)
	}
	p.port.host = p.host
	n.sim.network.attach(p.port)
	return p, nil
}

// dead tells that the process was killed: what it has just answered, it has not.
func (p *process) dead() bool {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	return p.killed
}

func (p *process) shardDir(set quorate.ReplicaSetID) string {
	return filepath.Join(p.dir, fmt.Sprintf("shard-%d", set))
}

func (p *process) shardConfig(set quorate.ReplicaSetID) tsdbshard.Config {
	return tsdbshard.Config{
		Dir: p.shardDir(set), Set: set,
		Disk:   durable.Disk{FS: slowFS{p.node.disk}},
		Logger: p.node.sim.trace.logger(fmt.Sprintf("%s, set %d", p.node, set)),
	}
}

// openAll opens all replicas that the node has at once, after it has formed those
// that it should have by now.
func (p *process) openAll(ctx context.Context) error {
	sets := p.node.sim.allSets()
	errs := make([]error, len(sets))
	var wg sync.WaitGroup
	for i, set := range sets {
		wg.Go(func() { errs[i] = p.openIfThere(ctx, set) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (p *process) openIfThere(ctx context.Context, set *replicaSet) error {
	switch {
	case p.node.has(set):
		return p.open(ctx, set)
	case set.foundedOn(p.node):
		if set.number > 0 {
			p.node.sim.count("replicas formed by a start", 1)
		}
		return p.form(ctx, set)
	}
	// A process may have been killed when it had just joined.
	there, err := p.host.Exists(set.id, set.member(p.node).Replica)
	if err != nil || !there {
		return err
	}
	return p.open(ctx, set)
}

// form forms the replica of a set that the node is a founder of, and opens it.
func (p *process) form(ctx context.Context, set *replicaSet) error {
	if err := p.host.Form(ctx, set.genesis(p.node)); err != nil {
		return err
	}
	p.node.mark(p, set)
	return p.open(ctx, set)
}

// join makes a replica from a seed of the leader, and opens it.
func (p *process) join(ctx context.Context, leader *replica) error {
	set := leader.set
	seed := leader.group.Seed()
	info, err := raftset.ParseSeed(seed)
	if err != nil {
		return err
	}
	if err := p.fetchFiles(ctx, set.id, leader.node.id, info.Payload); err != nil {
		return err
	}
	// Some seeds are old when they are used, and some processes die before.
	if c := p.node.disk.chance; c.happens(0.3) && !pause(ctx, c.between(0, oldestSeed)) {
		return ctx.Err()
	}
	if err := p.host.Join(ctx, set.id, set.member(p.node).Replica, seed); err != nil {
		return err
	}
	p.node.mark(p, set)
	return p.open(context.WithoutCancel(ctx), set)
}

// open opens a replica, and has it looked after from then on.
func (p *process) open(ctx context.Context, set *replicaSet) error {
	n := p.node
	shard, err := tsdbshard.New(p.shardConfig(set.id))
	if err != nil {
		return err
	}
	var machine raftset.StateMachine = shard
	if n.sim.cfg.mutant == diverges && n.number%2 == 0 {
		machine = &diverging{Shard: shard, set: set}
	}
	group, err := p.host.Open(ctx, set.id, set.member(n).Replica, machine)
	if err != nil {
		return fmt.Errorf("start %s for the %d. time: %w", n, p.life, err)
	}
	r := &replica{process: p, set: set, shard: shard, group: group}
	n.mu.Lock()
	p.replicas[set.id] = r
	n.mu.Unlock()
	s := group.Status()
	n.sim.trace.add("%s opens set %d: manifest %d, log [%d, %d], term %d", n, set.id, s.ManifestIndex, s.FirstIndex, s.LastIndex, s.Term)
	n.sim.watchers.Go(func() { r.watch(ctx) })
	return nil
}

// watch has a process whose replica has failed end, and another one open it
// again, as the node would.
func (r *replica) watch(ctx context.Context) {
	n := r.node
	select {
	case <-r.gone:
		return
	case <-r.group.Failed():
	}
	reason := r.group.Status().Broken
	n.sim.trace.add("%s: the replica of set %d failed: %v", n, r.set.id, reason)
	if r.dead() {
		return
	}
	if !strings.Contains(fmt.Sprint(reason), curedByReopening) {
		n.sim.fail(fmt.Errorf("a replica of set %d failed on %s without reason: %w", r.set.id, n, reason))
	}
	n.sim.count("replica failures", 1)
	if n.stop(r.process) {
		n.restart(ctx)
	}
}

// watch does what an operating system does for a process: it ends one whose disk
// hangs and starts it anew.
func (p *process) watch(ctx context.Context) {
	n := p.node
	select {
	case <-p.gone:
		return
	case <-p.hung:
	}
	n.sim.count("hung disk", 1)
	if n.sim.kill("its disk hangs", n) {
		n.restart(ctx)
	}
}
