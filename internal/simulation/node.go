package simulation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate"
)

const (
	// segmentBytes is the least that raftset takes: logs roll over often.
	segmentBytes = 64 << 10
	// curedByReopening is what raftset says of failures that it means to have:
	// those by which a replica gets rid of what the library cannot forget. Any
	// other is found, since nothing here damages files.
	curedByReopening = "has to be opened again"
	restartAfter     = 300 * time.Millisecond
)

// node is a machine: it has a replica of every set, a disk, and at most one
// process.
type node struct {
	sim    *simulation
	number int
	id     quorate.NodeID
	disk   *disk
	// turn is held by whoever starts or ends a process.
	turn chan struct{}

	// Guarded by turn.
	dir     string // of the files that the next process finds
	lives   int
	retired bool

	mu  sync.Mutex
	now *process // nil while nothing runs
	// made are the sets of which the node has had a replica.
	made map[quorate.ReplicaSetID]bool
}

// newNode makes a node on which nothing runs.
func newNode(s *simulation, number int) *node {
	name := fmt.Sprintf("node%d", number)
	return &node{
		sim: s, number: number,
		id:   quorate.NodeID{Name: name, Incarnation: quorate.Incarnation{byte(number), byte(number >> 8)}},
		disk: newDisk(newChance(s.cfg.Seed, streamDisks+uint64(number))),
		turn: make(chan struct{}, 1), made: make(map[quorate.ReplicaSetID]bool),
		dir: filepath.Join(s.cfg.Dir, name+"-0"),
	}
}

// patience is the node's heartbeat timeout, 0 for the usual one.
func (n *node) patience() time.Duration {
	if n.sim.patient && n.number%founders == 1 {
		return 4 * time.Second
	}
	return 0
}

func (n *node) String() string { return n.id.Name }

// take waits for the right to start or end the node's process. Nobody waits for a
// turn while having another but kill, and no two kills of several nodes go on at
// once.
func (n *node) take() { n.turn <- struct{}{} }

func (n *node) yield() { <-n.turn }

// process returns the node's process, nil if none runs.
func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// replica returns the node's open replica of a set, nil if there is none.
func (n *node) replica(set *replicaSet) *replica {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil {
		return nil
	}
	return n.now.replicas[set.id]
}

// has tells whether the node has a replica of a set, which must be there for ever
// then. A mutant's disk may have forgotten it.
func (n *node) has(set *replicaSet) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.made[set.id] && n.sim.cfg.mutant != forgets
}

// mark tells that a process has made the node's replica of a set. If it was
// killed meanwhile, the next may find it or not.
func (n *node) mark(p *process, set *replicaSet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !p.killed {
		n.made[set.id] = true
	}
}

// start starts a process with the replicas that the node has, unless one runs or
// the node is retired.
func (n *node) start(ctx context.Context) error {
	n.take()
	defer n.yield()
	if n.retired || n.process() != nil {
		return nil
	}
	p, err := n.boot()
	if err != nil {
		return err
	}
	if err := p.openAll(ctx); err != nil {
		close(p.gone)
		n.sim.network.detach(p.port)
		return errors.Join(err, p.host.Close())
	}
	n.mu.Lock()
	n.now = p
	n.mu.Unlock()
	n.sim.trace.add("%s runs", n)
	n.sim.watchers.Go(func() { p.watch(ctx) })
	return nil
}

// restart is what follows a process that was ended for its own good.
func (n *node) restart(ctx context.Context) {
	sleep(restartAfter)
	n.sim.must(n.start(ctx))
}

// use returns the process that runs for something that opens a replica in it,
// which calls opening.Done in the end; nil if none runs. A start that is under
// way has ended by then, and the process may be killed at any time.
func (n *node) use() *process {
	n.take()
	defer n.yield()
	p := n.process()
	if p != nil {
		p.opening.Add(1)
	}
	return p
}

// form forms and opens the replica of a new set in the process that runs. When
// none does, the next one will: the set is recorded already.
func (n *node) form(ctx context.Context, set *replicaSet) error {
	p := n.use()
	if p == nil {
		return nil
	}
	defer p.opening.Done()
	if n.replica(set) != nil {
		return nil // a process that started meanwhile has formed it
	}
	if err := p.form(ctx, set); err != nil && !p.dead() {
		return err
	}
	return nil
}

// join makes and opens the replica of a set by the leader's seed.
func (n *node) join(ctx context.Context, leader *replica) error {
	p := n.use()
	if p == nil {
		return fmt.Errorf("%s is down", n)
	}
	defer p.opening.Done()
	if n.replica(leader.set) != nil {
		return nil
	}
	err := p.join(ctx, leader)
	if p.dead() {
		n.sim.count("killed while joining", 1)
		return fmt.Errorf("%s was killed while it joined", n)
	}
	return err
}

// stop ends the node's process in order, if it is p, and tells whether it was.
func (n *node) stop(p *process) bool {
	n.take()
	defer n.yield()
	if p == nil || n.process() != p {
		return false
	}
	n.mu.Lock()
	n.now = nil
	n.mu.Unlock()
	close(p.gone)
	p.opening.Wait()
	if err := p.host.Close(); err != nil {
		n.sim.trace.add("%s: closing: %v", n, err)
	}
	n.sim.network.detach(p.port)
	return true
}

// kill ends the processes of some nodes at one instant, without a word. What the
// next ones find is what the files held then: nothing else runs while they are
// copied, since it is done when everything waits for time to pass, so that the
// copy is of one moment, with every file as it is between two steps. What goes on
// in the old processes' memory is of no consequence to anybody. It tells whether
// any process ran.
func (s *simulation) kill(why string, nodes ...*node) bool {
	for _, n := range nodes {
		n.take()
	}
	s.quiet <- struct{}{}
	s.cfg.Settle()
	killed := false
	for _, n := range nodes {
		if p := n.process(); p != nil {
			killed = true
			s.must(n.die(p))
			s.trace.add("%s is killed: %s", n, why)
		}
	}
	<-s.quiet
	for _, n := range nodes {
		n.yield()
	}
	return killed
}

// die copies a process' files and makes it unheard. Nothing else runs.
func (n *node) die(p *process) error {
	n.dir = filepath.Join(n.sim.cfg.Dir, fmt.Sprintf("%s-%d", n, n.lives))
	found := p.dir
	if p.old != "" {
		found = p.old
	}
	err := os.CopyFS(n.dir, os.DirFS(found))
	p.port.dead.Store(true)
	n.sim.network.detach(p.port)
	n.mu.Lock()
	p.killed, n.now = true, nil
	n.mu.Unlock()
	close(p.gone)
	n.sim.watchers.Go(func() {
		p.opening.Wait()
		// It may find the files of its log gone wrong, and who cares.
		_ = p.host.Close()
		n.sim.must(os.RemoveAll(p.dir))
	})
	return err
}

// retire ends a node for good. It is retired before it is killed, so that nobody
// starts it in between.
func (n *node) retire() error {
	n.take()
	n.retired = true
	n.yield()
	n.sim.kill("it is no member any more", n)
	n.take()
	defer n.yield()
	return os.RemoveAll(n.dir)
}

// end ends the node's process, if one runs, and keeps others from starting.
func (n *node) end() {
	n.take()
	n.retired = true
	n.yield()
	n.stop(n.process())
}
