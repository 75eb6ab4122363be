package router

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// Peers is this node's way to other nodes. Its errors keep their
// quorate.ErrorKind across the wire; what keeps an answer from coming is
// Unavailable. What is sent may be used again when the call has returned.
type Peers interface {
	// Call asks a node and returns its answer.
	Call(ctx context.Context, to quorate.NodeID, method string, req []byte) ([]byte, error)
	// Stream asks a node for messages, which recv returns one after the other;
	// io.EOF ends them. It goes on until then or until ctx ends.
	Stream(ctx context.Context, to quorate.NodeID, method string, req []byte) (recv func() ([]byte, error), err error)
}

// Handlers takes what a node answers to others.
type Handlers interface {
	// Handle has a method answered by h. A request is valid during the call.
	Handle(method string, h func(ctx context.Context, from quorate.NodeID, req []byte) ([]byte, error))
	// HandleStream has a method answered by what h sends; a message may be used
	// again when send has returned.
	HandleStream(method string, h func(ctx context.Context, from quorate.NodeID, req []byte, send func([]byte) error) error)
}

// The methods between routers; docs/format/rpc.md has their bytes.
const (
	methodWrite     = "set.write"
	methodDelete    = "set.delete"
	methodCompact   = "set.compact"
	methodPin       = "set.pin"
	methodSelect    = "set.select"
	methodLabels    = "set.labels"
	methodExemplars = "set.exemplars"
	methodMetadata  = "set.metadata"
	methodStats     = "set.stats"
)

const (
	// maxHints bounds the sets whose leader is remembered. More are forgotten
	// all at once, which costs each a question.
	maxHints = 1 << 16
	// suspectFor is how long a node that gave no answer is asked last.
	suspectFor = 3 * time.Second
)

// acquaintances is what this node has learned of others in passing: who leads
// which set, and who did not answer lately. It is a hint each time: who is asked
// judges for himself.
type acquaintances struct {
	mu       sync.RWMutex
	leaders  map[quorate.ReplicaSetID]quorate.NodeID
	suspects map[quorate.NodeID]time.Time // until when
}

// leaderOf returns the node that led a set when that was last heard of.
func (a *acquaintances) leaderOf(set quorate.ReplicaSetID) (quorate.NodeID, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	node, ok := a.leaders[set]
	return node, ok
}

// leads notes that a node leads a set.
func (a *acquaintances) leads(node quorate.NodeID, set quorate.ReplicaSetID) {
	if known, ok := a.leaderOf(set); ok && known == node {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.leaders == nil || len(a.leaders) >= maxHints {
		a.leaders = make(map[quorate.ReplicaSetID]quorate.NodeID)
	}
	a.leaders[set] = node
}

// leadsNot notes that a node does not lead a set.
func (a *acquaintances) leadsNot(node quorate.NodeID, set quorate.ReplicaSetID) {
	if known, ok := a.leaderOf(set); !ok || known != node {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.leaders, set)
}

// answered notes whether a node answered, whatever it said.
func (a *acquaintances) answered(node quorate.NodeID, did bool) {
	if did && !a.isSuspect(node) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if did {
		delete(a.suspects, node)
		return
	}
	if a.suspects == nil {
		a.suspects = make(map[quorate.NodeID]time.Time)
	}
	a.suspects[node] = time.Now().Add(suspectFor)
}

// isSuspect tells whether a node gave no answer when it was last asked, a moment
// ago.
func (a *acquaintances) isSuspect(node quorate.NodeID) bool {
	a.mu.RLock()
	defer a.mu.RUnlock()
	until, ok := a.suspects[node]
	return ok && time.Now().Before(until)
}

// search walks the nodes that may do something with a set, each once.
type search struct {
	waiting []quorate.NodeID
	tried   []quorate.NodeID
}

// next returns the node to be asked next, and false when all were.
func (s *search) next() (quorate.NodeID, bool) {
	for len(s.waiting) > 0 {
		node := s.waiting[0]
		s.waiting = s.waiting[1:]
		if !s.wasTried(node) {
			s.tried = append(s.tried, node)
			return node, true
		}
	}
	return quorate.NodeID{}, false
}

func (s *search) wasTried(node quorate.NodeID) bool {
	for _, t := range s.tried {
		if t == node {
			return true
		}
	}
	return false
}

// prefer has a node asked before the others, unless it was asked already. It
// need not be a member as far as the map knows: leaders know better.
func (s *search) prefer(node quorate.NodeID) {
	s.waiting = append([]quorate.NodeID{node}, s.waiting...)
}

// searchLeader walks a set's nodes for its leader: who is said to lead, then the
// members in the map's order, of which the first is to lead where it can.
func (r *Router) searchLeader(set *metasvc.ReplicaSet, hint quorate.NodeID) *search {
	s := &search{}
	if hint != (quorate.NodeID{}) {
		s.waiting = append(s.waiting, hint)
	}
	if known, ok := r.peerNotes.leaderOf(set.ID); ok {
		s.waiting = append(s.waiting, known)
	}
	for _, m := range set.Members {
		s.waiting = append(s.waiting, m.Node)
	}
	r.suspectsLast(s)
	return s
}

// searchNearest walks a set's nodes from the nearest on: this one, those of its
// zone, the others.
func (r *Router) searchNearest(m *metasvc.Map, set *metasvc.ReplicaSet) *search {
	s := &search{}
	var zone, rest []quorate.NodeID
	self := m.Node(r.self)
	for _, member := range set.Members {
		node := m.Node(member.Node)
		switch {
		case member.Node == r.self:
			s.waiting = append(s.waiting, member.Node)
		case self != nil && node != nil && node.Zone == self.Zone:
			zone = append(zone, member.Node)
		default:
			rest = append(rest, member.Node)
		}
	}
	s.waiting = append(append(s.waiting, zone...), rest...)
	r.suspectsLast(s)
	return s
}

// suspectsLast moves the nodes to the end that do not answer at the moment.
func (r *Router) suspectsLast(s *search) {
	var well, suspects []quorate.NodeID
	for _, node := range s.waiting {
		if node != r.self && r.peerNotes.isSuspect(node) {
			suspects = append(suspects, node)
		} else {
			well = append(well, node)
		}
	}
	s.waiting = append(well, suspects...)
}
