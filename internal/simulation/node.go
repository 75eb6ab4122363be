package simulation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	testSet quorate.ReplicaSetID = 7
	// segmentBytes is the least that raftset takes: logs roll over often.
	segmentBytes = 64 << 10
	// curedByReopening is what raftset says of failures that it means to have:
	// those by which a replica gets rid of what the library cannot forget. Any
	// other is found, since nothing here damages files.
	curedByReopening = "has to be opened again"
	restartAfter     = 300 * time.Millisecond
)

// node is a machine: it has one member of the set, a disk, and at most one
// process.
type node struct {
	sim    *simulation
	member raftset.Member
	disk   *disk
	// formed tells that the member is of the first three. Others join.
	formed bool
	// turn is held by whoever starts or ends a process.
	turn chan struct{}

	// Guarded by turn.
	dir     string // of the files that the next process finds
	lives   int
	retired bool

	mu  sync.Mutex
	now *process // nil while nothing runs
}

// process is one life of a node.
type process struct {
	node  *node
	dir   string
	port  *port
	host  *raftset.Host
	shard *tsdbshard.Shard
	group *raftset.Group
	// hung is told when a write was stuck for too long.
	hung chan struct{}
	// gone is closed when the process ends, in order or not.
	gone chan struct{}
	// killed tells that the process is no more and whatever it still says has
	// not been heard by anybody.
	killed bool // guarded by node.mu
	// old has the files as they were, for the mutant that forgets.
	old string
}

// newNode makes a node on which nothing runs. Who is to be one of the first three
// members will form the set.
func newNode(s *simulation, number int, formed bool) *node {
	name := fmt.Sprintf("node%d", number)
	return &node{
		sim: s, formed: formed,
		member: raftset.Member{
			Node:    quorate.NodeID{Name: name, Incarnation: quorate.Incarnation{byte(number), byte(number >> 8)}},
			Replica: quorate.ReplicaID(number),
		},
		disk: newDisk(newChance(s.cfg.Seed, streamDisks+uint64(number))),
		turn: make(chan struct{}, 1),
		dir:  filepath.Join(s.cfg.Dir, name+"-0"),
	}
}

// patience is the node's heartbeat timeout, 0 for the usual one.
func (n *node) patience() time.Duration {
	if n.sim.patient && n.member.Replica%founders == 1 {
		return 4 * time.Second
	}
	return 0
}

func (n *node) String() string { return n.member.Node.Name }

// take waits for the right to start or end the node's process.
func (n *node) take() { n.turn <- struct{}{} }

func (n *node) yield() { <-n.turn }

// process returns the node's process, nil if none runs.
func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// dead tells that the process was killed: what it has just answered, it has not.
func (p *process) dead() bool {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	return p.killed
}

func (p *process) shardConfig() tsdbshard.Config {
	return tsdbshard.Config{
		Dir: filepath.Join(p.dir, "shard"), Set: testSet,
		Disk:   durable.Disk{FS: slowFS{p.node.disk}},
		Logger: p.node.sim.trace.logger(p.node.String()),
	}
}

// boot starts a process without a replica. The turn is the caller's.
func (n *node) boot() (*process, error) {
	n.lives++
	p := &process{node: n, dir: n.dir, hung: make(chan struct{}, 1), gone: make(chan struct{})}
	p.port = newPort(n.sim.network, n.member.Node)
	var err error
	p.host, err = raftset.NewHost(raftset.HostConfig{
		Dir: filepath.Join(n.dir, "raft"), Node: n.member.Node, Messenger: p.port, Fetch: p.fetch,
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

// open opens the replica of a process that boot has started, and looks after it
// from then on.
func (p *process) open(ctx context.Context) (err error) {
	n := p.node
	if p.shard, err = tsdbshard.New(p.shardConfig()); err != nil {
		return err
	}
	var machine raftset.StateMachine = p.shard
	if n.sim.cfg.mutant == diverges && n.member.Replica%2 == 0 {
		machine = &diverging{Shard: p.shard}
	}
	if p.group, err = p.host.Open(ctx, testSet, n.member.Replica, machine); err != nil {
		return fmt.Errorf("start %s for the %d. time: %w", n, n.lives, err)
	}
	n.mu.Lock()
	n.now = p
	n.mu.Unlock()
	s := p.group.Status()
	n.sim.trace.add("%s runs: manifest %d, log [%d, %d], term %d", n, s.ManifestIndex, s.FirstIndex, s.LastIndex, s.Term)
	n.sim.watchers.Go(func() { n.watch(ctx, p) })
	return nil
}

// start starts the process of a member, unless one runs or the node is retired.
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
	if n.formed {
		gen := raftset.Genesis{Set: testSet, Replica: n.member.Replica, Voters: n.sim.founders, Payload: tsdbshard.GenesisPayload(genesisBounds())}
		err = p.host.Form(ctx, gen)
	}
	if err == nil {
		err = p.open(ctx)
	}
	if err != nil {
		n.sim.network.detach(p.port)
		return errors.Join(err, p.host.Close())
	}
	return nil
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
	if err := p.host.Close(); err != nil {
		n.sim.trace.add("%s: closing: %v", n, err)
	}
	n.sim.network.detach(p.port)
	return true
}

// watch does what an operating system does for a process: it ends one whose
// disk hangs and starts it anew. And it opens a replica that has failed again,
// as the node would.
func (n *node) watch(ctx context.Context, p *process) {
	select {
	case <-p.gone:
		return
	case <-p.hung:
		n.sim.count("hung disk", 1)
		if !n.sim.kill("its disk hangs", n) {
			return
		}
	case <-p.group.Failed():
		reason := p.group.Status().Broken
		n.sim.trace.add("%s: the replica failed: %v", n, reason)
		if p.dead() {
			return
		}
		if !strings.Contains(fmt.Sprint(reason), curedByReopening) {
			n.sim.fail(fmt.Errorf("a replica failed on %s without reason: %w", n, reason))
		}
		n.sim.count("replica failures", 1)
		if !n.stop(p) {
			return
		}
	}
	sleep(restartAfter)
	n.sim.must(n.start(ctx))
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
