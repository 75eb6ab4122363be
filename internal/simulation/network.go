package simulation

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/raftset"
)

const (
	// The latency of a message, and of an answer, when nothing is wrong.
	minLatency = 200 * time.Microsecond
	maxLatency = 3 * time.Millisecond
	// brokenAfter is how long a connection may bring nothing that it should have
	// before who waits is told that it is broken.
	brokenAfter = 10 * time.Second
)

var (
	errNoAnswer    = errors.New("no answer in time")
	errUnreachable = errors.New("nobody listens there")
)

// network carries messages between the processes of a run: each lane from one
// node to another in order, with whatever goes wrong as the nemesis says.
type network struct {
	chance *chance
	// running are the goroutines of lanes.
	running sync.WaitGroup

	mu    sync.Mutex
	ports map[quorate.NodeID]*port
	lanes map[lane]*traffic
	// cut counts the faults because of which nothing gets through a link.
	cut map[link]int
	// slow is what the latency of a link is up to, above the usual.
	slow map[link]time.Duration
	// loss is the share of messages, and of answers, that are lost.
	loss float64
	// held has a channel for each node whose messages are held back, both ways;
	// closing it lets them go on.
	held map[quorate.NodeID]chan struct{}
	// exaggerates is a mutant's.
	exaggerates bool
}

// link is the way from one node to another.
type link struct{ from, to quorate.NodeID }

type lane struct {
	link
	number uint8
}

// traffic is what is under way on a lane; its goroutine lives while something is.
type traffic struct {
	waiting []*parcel
	last    time.Time // when the last of them arrives
	busy    bool
}

// parcel is one message under way.
type parcel struct {
	link
	sender  *port
	arrives time.Time
	message []byte
	finish  func(answer []byte, err error)
}

func newNetwork(c *chance) *network {
	return &network{
		chance: c,
		ports:  make(map[quorate.NodeID]*port),
		lanes:  make(map[lane]*traffic),
		cut:    make(map[link]int),
		slow:   make(map[link]time.Duration),
		held:   make(map[quorate.NodeID]chan struct{}),
	}
}

func (n *network) with(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// port is one process' Messenger. A process that was killed neither sends nor
// hears, though what remains of it in memory does not know that.
type port struct {
	network *network
	node    quorate.NodeID
	host    *raftset.Host
	dead    atomic.Bool
	// unanswered are the messages that the process has and whose senders wait.
	// Guarded by network.mu.
	unanswered map[*parcel]struct{}
}

func newPort(n *network, node quorate.NodeID) *port {
	return &port{network: n, node: node, unanswered: make(map[*parcel]struct{})}
}

var _ raftset.Messenger = (*port)(nil)

// attach lets messages for a process' node go to it.
func (n *network) attach(p *port) {
	n.with(func() { n.ports[p.node] = p })
}

// detach ends that. Who waits for an answer is told so, if that gets through: a
// process that ends breaks its connections.
func (n *network) detach(p *port) {
	n.with(func() {
		if n.ports[p.node] == p {
			delete(n.ports, p.node)
		}
		for waiting := range p.unanswered {
			n.breaks(waiting, n.cut[link{p.node, waiting.from}] == 0)
		}
		clear(p.unanswered)
	})
}

// breaks tells a sender that there will be no answer: soon, if the other side
// says so, and otherwise once its silence is noticed.
func (n *network) breaks(p *parcel, told bool) {
	after := brokenAfter
	if told {
		after = n.latency(link{p.to, p.from})
	}
	time.AfterFunc(after, func() { p.finish(nil, errUnreachable) })
}

// block cuts links, unblock undoes it.
func (n *network) block(links ...link) {
	n.with(func() {
		for _, l := range links {
			n.cut[l]++
		}
	})
}

func (n *network) unblock(links ...link) {
	n.with(func() {
		for _, l := range links {
			n.cut[l]--
		}
	})
}

// hold keeps the messages from and to a node back until release.
func (n *network) hold(node quorate.NodeID) {
	n.with(func() {
		if n.held[node] == nil {
			n.held[node] = make(chan struct{})
		}
	})
}

func (n *network) release(node quorate.NodeID) {
	n.with(func() {
		if gate := n.held[node]; gate != nil {
			close(gate)
			delete(n.held, node)
		}
	})
}

// reaches tells whether two nodes reach each other, both ways.
func (n *network) reaches(a, b quorate.NodeID) (ok bool) {
	n.with(func() { ok = n.cut[link{a, b}] == 0 && n.cut[link{b, a}] == 0 })
	return ok
}

// latency is how long what is sent now takes.
func (n *network) latency(l link) time.Duration {
	d := n.chance.between(minLatency, maxLatency)
	if slow := n.slow[l]; slow > 0 {
		d += n.chance.between(slow/2, slow)
	}
	return d
}

// Send implements raftset.Messenger.
func (p *port) Send(to quorate.NodeID, number uint8, message []byte, timeout time.Duration, done func([]byte, error)) {
	n := p.network
	var once sync.Once
	finish := func(answer []byte, err error) { once.Do(func() { done(answer, err) }) }
	if p.dead.Load() {
		finish(nil, errUnreachable)
		return
	}
	timer := time.AfterFunc(timeout, func() { finish(nil, errNoAnswer) })
	way := link{p.node, to}
	n.mu.Lock()
	defer n.mu.Unlock()
	key := lane{link: way, number: number}
	t := n.lanes[key]
	if t == nil {
		t = &traffic{}
		n.lanes[key] = t
	}
	arrives := time.Now().Add(n.latency(way))
	if arrives.Before(t.last) {
		arrives = t.last
	}
	t.last = arrives
	t.waiting = append(t.waiting, &parcel{link: way, sender: p, arrives: arrives, message: message, finish: func(answer []byte, err error) {
		timer.Stop()
		finish(answer, err)
	}})
	if !t.busy {
		t.busy = true
		n.running.Go(func() { n.run(t) })
	}
}

// close waits until nothing is under way. Nobody sends any more.
func (n *network) close() { n.running.Wait() }

func (n *network) run(t *traffic) {
	for {
		n.mu.Lock()
		if len(t.waiting) == 0 {
			t.busy = false
			n.mu.Unlock()
			return
		}
		next := t.waiting[0]
		t.waiting = t.waiting[1:]
		n.mu.Unlock()
		if wait := time.Until(next.arrives); wait > 0 {
			sleep(wait)
		}
		n.awaitRelease(next.link)
		n.deliver(next)
	}
}

// awaitRelease waits while the messages of either end of a link are held back.
func (n *network) awaitRelease(l link) {
	for {
		n.mu.Lock()
		gate := n.held[l.from]
		if gate == nil {
			gate = n.held[l.to]
		}
		n.mu.Unlock()
		if gate == nil {
			return
		}
		<-gate
	}
}

// passes tells whether what arrives now gets through.
func (n *network) passes(l link) bool {
	return n.cut[l] == 0 && (n.loss == 0 || !n.chance.happens(n.loss))
}

func (n *network) deliver(p *parcel) {
	n.mu.Lock()
	receiver, passes := n.ports[p.to], n.passes(p.link)
	switch {
	case !passes:
		n.breaks(p, false)
		receiver = nil
	case receiver == nil:
		n.breaks(p, true)
	default:
		receiver.unanswered[p] = struct{}{}
	}
	n.mu.Unlock()
	if receiver != nil {
		receiver.host.Deliver(p.from, p.message, func(answer []byte) { n.answer(receiver, p, answer) })
	}
}

// answer carries back what a process answers, unless it is no more.
func (n *network) answer(receiver *port, p *parcel, answer []byte) {
	back := link{p.to, p.from}
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(receiver.unanswered, p)
	if receiver.dead.Load() {
		return
	}
	if n.exaggerates {
		answer = exaggerate(p.message, answer)
	}
	if !n.passes(back) {
		n.breaks(p, false)
		return
	}
	time.AfterFunc(n.latency(back), func() {
		n.awaitRelease(back)
		if !p.sender.dead.Load() {
			p.finish(answer, nil)
		}
	})
}
