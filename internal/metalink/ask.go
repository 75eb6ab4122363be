package metalink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

const (
	// askTimeout bounds one node's answer to what may be asked of another: two
	// of them fit into the renewal of a map lease.
	askTimeout = 800 * time.Millisecond
	// awaitPause bounds how long an index is waited for before it is looked at
	// anew: not every advance of the log shows in the state machine.
	awaitPause = 10 * time.Millisecond
	// lagsAfter is how long an index is waited for before the node that this
	// one follows is held for cut off, and another is followed.
	lagsAfter = 500 * time.Millisecond
)

// Propose commits an encoded command and returns its result, once the leader
// and this node's state machine have applied it. It goes to the local replica
// if that leads, else to the leader of the last answer, else to the metadata
// nodes in turn, until one leads. An error is of kind Unavailable unless the
// leader itself gave it another, and leaves it unknown whether the command is
// applied.
func (l *Link) Propose(ctx context.Context, command []byte) (any, error) {
	if r, _ := l.local(); r.leads() {
		result, err := r.propose(ctx, command)
		if !errors.As(err, new(*raftset.NotLeaderError)) {
			if err != nil {
				return nil, err
			}
			return l.applied(ctx, result, r.group.Status().AppliedIndex)
		}
	}
	a, err := l.ask(ctx, methodPropose, command, once)
	if err != nil {
		return nil, err
	}
	result, err := metasvc.DecodeResult(a.result)
	if err != nil {
		return nil, quorate.Errorf(quorate.Unavailable, "result of a metadata command: %w", err)
	}
	return l.applied(ctx, result, a.index)
}

// applied returns a command's result once this node's state machine has it.
func (l *Link) applied(ctx context.Context, result any, index uint64) (any, error) {
	if err := l.await(ctx, index); err != nil {
		return nil, err
	}
	return result, nil
}

// ConfirmRead returns nil once this node's state machine has whatever the group
// had committed before the call. The error is of kind Unavailable.
func (l *Link) ConfirmRead(ctx context.Context) error {
	if r, _ := l.local(); r.leads() {
		_, err := r.group.ConfirmRead(ctx)
		if err == nil {
			return l.await(ctx, r.group.Status().AppliedIndex)
		}
		if !errors.As(err, new(*raftset.NotLeaderError)) {
			return err
		}
	}
	a, err := l.ask(ctx, methodConfirm, nil, again)
	if err != nil {
		return err
	}
	return l.await(ctx, a.index)
}

// await waits until this node's state machine has everything up to an index of
// the leader's log. A local replica may have got there without the state
// machine's notice, by entries that are none of its own.
func (l *Link) await(ctx context.Context, index uint64) error {
	began := time.Now()
	machine := l.cfg.Machine
	for {
		applied := machine.AppliedIndex()
		if applied >= index {
			return nil
		}
		if r, _ := l.local(); r != nil && r.machine == machine && r.group.Status().AppliedIndex >= index {
			return nil
		}
		if time.Since(began) > lagsAfter {
			l.leaveSource()
			began = time.Now()
		}
		pause, cancel := context.WithTimeout(ctx, awaitPause)
		_, err := machine.Watch(applied).Next(pause)
		cancel()
		if ctx.Err() != nil {
			return quorate.Errorf(quorate.Unavailable, "wait until this node has metadata entry %d, it has %d: %w", index, applied, context.Cause(ctx))
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return quorate.Errorf(quorate.Unavailable, "wait until this node has metadata entry %d: %w", index, err)
		}
	}
}

// repeat tells whether a request may be sent to a second node although the
// first one may have done it.
type repeat bool

const (
	once  repeat = false
	again repeat = true
)

// ask sends a request that is the leader's to one node after the other, until
// one of them leads.
func (l *Link) ask(ctx context.Context, method string, request []byte, r repeat) (answer, error) {
	start := time.Now()
	a, err := l.askEach(ctx, method, request, r)
	l.metrics.observe(method, start, err)
	if err != nil {
		return answer{}, fmt.Errorf("metadata leader: %w", err)
	}
	return a, nil
}

func (l *Link) askEach(ctx context.Context, method string, request []byte, r repeat) (answer, error) {
	next := l.candidates()
	asked := make(map[quorate.NodeID]bool)
	var errs []error
	looked := false
	for ctx.Err() == nil {
		if len(next) == 0 {
			if looked {
				break
			}
			looked = true
			next = l.lookAround(ctx)
			continue
		}
		node := next[0]
		next = next[1:]
		if asked[node] || node == l.cfg.Self {
			continue
		}
		asked[node] = true
		a, err := l.askOne(ctx, node, method, request, r)
		switch {
		case err == nil && a.led:
			l.setLeader(node)
			return a, nil
		case err == nil:
			l.learn(a.leader)
			if a.leader.ID != (quorate.NodeID{}) {
				next = append([]quorate.NodeID{a.leader.ID}, next...)
			}
			errs = append(errs, fmt.Errorf("node %s does not lead", node.Name))
		case r == once && !notDone(err):
			l.forget(node)
			return answer{}, err
		default:
			l.forget(node)
			errs = append(errs, err)
		}
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	if len(errs) == 0 {
		return answer{}, quorate.Errorf(quorate.Unavailable, "none was found: no other metadata node is known")
	}
	return answer{}, quorate.Errorf(quorate.Unavailable, "none was found: %w", errors.Join(errs...))
}

// askOne asks one node, for a while if another may be asked after it.
func (l *Link) askOne(ctx context.Context, node quorate.NodeID, method string, request []byte, r repeat) (answer, error) {
	if r == again {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askTimeout)
		defer cancel()
	}
	b, err := l.cfg.Port.Call(ctx, node, method, request)
	if err != nil {
		return answer{}, err
	}
	a, err := decodeAnswer(b)
	if err != nil {
		return answer{}, quorate.Errorf(quorate.Unavailable, "%s of node %s: %w", method, node.Name, err)
	}
	return a, nil
}

// candidates are the nodes to ask: who is held for the leader, the voters of
// the map, and whoever else was heard of.
func (l *Link) candidates() []quorate.NodeID {
	var nodes []quorate.NodeID
	add := func(id quorate.NodeID) {
		if id != (quorate.NodeID{}) && id != l.cfg.Self && !slices.Contains(nodes, id) {
			nodes = append(nodes, id)
		}
	}
	add(l.Leader())
	for _, n := range l.MetaNodes() {
		add(n.ID)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.order {
		add(id)
	}
	return nodes
}

// lookAround asks the configured addresses who is there. It finds the cluster
// again when all that this node knew of it has moved.
func (l *Link) lookAround(ctx context.Context) []quorate.NodeID {
	var found []quorate.NodeID
	for _, address := range l.cfg.Addresses {
		h, err := greet(ctx, l.cfg.Port, address, encodeGreeting(false))
		if err != nil || h.Cluster.IsZero() {
			continue // what is told is why the nodes known did not answer
		}
		l.learn(MetaNode{h.Node, address})
		l.learn(h.Meta...)
		found = append(found, h.Leader, h.Node)
		for _, m := range h.Meta {
			found = append(found, m.ID)
		}
	}
	return slices.DeleteFunc(found, func(id quorate.NodeID) bool { return id == quorate.NodeID{} })
}
