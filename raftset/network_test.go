package raftset

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

// network carries messages between the hosts of one test, in memory: each lane
// from one node to another in order, with whatever goes wrong as the test says.
type network struct {
	mu    sync.Mutex
	hosts map[quorate.NodeID]*Host
	lanes map[lane]*traffic
	// cut has the directions in which nothing arrives.
	cut map[[2]quorate.NodeID]bool
	// delay is how long every message of a lane takes, each way as one.
	delay map[uint8]time.Duration
	// drop, when set, tells which messages are lost.
	drop func(from, to quorate.NodeID, message []byte) bool
	// sent counts messages by kind.
	sent map[messageKind]int

	ended   chan struct{}
	running sync.WaitGroup
}

type lane struct {
	from, to quorate.NodeID
	number   uint8
}

// traffic is what is under way on a lane; its goroutine lives while something is.
type traffic struct {
	waiting []func()
	busy    bool
}

var errLost = errors.New("no answer in time")

// newNetwork makes a network that ends with its test: what is under way then is
// lost, and nothing of it is left, which a bubble of synctest would not forgive.
func newNetwork(t testing.TB) *network {
	n := &network{
		hosts: make(map[quorate.NodeID]*Host),
		lanes: make(map[lane]*traffic),
		cut:   make(map[[2]quorate.NodeID]bool),
		delay: make(map[uint8]time.Duration),
		sent:  make(map[messageKind]int),
		ended: make(chan struct{}),
	}
	t.Cleanup(func() {
		close(n.ended)
		n.running.Wait()
	})
	return n
}

// port is one node's Messenger.
type port struct {
	network *network
	node    quorate.NodeID
}

func (n *network) port(node quorate.NodeID) *port { return &port{network: n, node: node} }

func (n *network) attach(node quorate.NodeID, h *Host) {
	n.with(func() { n.hosts[node] = h })
}

func (n *network) with(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// isolate cuts a node off in both directions.
func (n *network) isolate(node quorate.NodeID) { n.setCut(node, true, true) }

// deafen cuts off what is sent to a node, mute what it sends.
func (n *network) deafen(node quorate.NodeID) { n.setCut(node, true, false) }

func (n *network) mute(node quorate.NodeID) { n.setCut(node, false, true) }

func (n *network) heal(node quorate.NodeID) { n.setCut(node, false, false) }

func (n *network) setCut(node quorate.NodeID, in, out bool) {
	n.with(func() {
		for other := range n.hosts {
			n.cut[[2]quorate.NodeID{other, node}] = in
			n.cut[[2]quorate.NodeID{node, other}] = out
		}
	})
}

func (n *network) count(kind messageKind) (sent int) {
	n.with(func() { sent = n.sent[kind] })
	return sent
}

// Send implements Messenger.
func (p *port) Send(to quorate.NodeID, number uint8, message []byte, timeout time.Duration, done func([]byte, error)) {
	n := p.network
	var once sync.Once
	finish := func(answer []byte, err error) { once.Do(func() { done(answer, err) }) }
	timer := time.AfterFunc(timeout, func() { finish(nil, errLost) })
	answered := func(answer []byte) {
		if n.arrives(to, p.node, nil) {
			timer.Stop()
			finish(answer, nil)
		}
	}
	deliver := func() {
		n.mu.Lock()
		host, delay := n.hosts[to], n.delay[number]
		n.mu.Unlock()
		if delay > 0 {
			pause := time.NewTimer(delay)
			defer pause.Stop()
			select {
			case <-pause.C:
			case <-n.ended:
				return
			}
		}
		if host != nil && n.arrives(p.node, to, message) {
			host.Deliver(p.node, message, answered)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent[messageKind(message[1])]++
	key := lane{from: p.node, to: to, number: number}
	t := n.lanes[key]
	if t == nil {
		t = &traffic{}
		n.lanes[key] = t
	}
	t.waiting = append(t.waiting, deliver)
	if !t.busy {
		t.busy = true
		n.running.Go(func() { n.run(t) })
	}
}

func (n *network) run(t *traffic) {
	for {
		n.mu.Lock()
		if len(t.waiting) == 0 {
			t.busy = false
			n.mu.Unlock()
			return
		}
		deliver := t.waiting[0]
		t.waiting = t.waiting[1:]
		n.mu.Unlock()
		deliver()
	}
}

func (n *network) arrives(from, to quorate.NodeID, message []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[[2]quorate.NodeID{from, to}] {
		return false
	}
	return message == nil || n.drop == nil || !n.drop(from, to, message)
}
