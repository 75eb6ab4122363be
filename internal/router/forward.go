package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// forwardTimeout bounds how long one node is waited for that was asked to carry
// out a write: a connection that broke says so at once, so that this is for a
// node that hangs.
const forwardTimeout = 5 * time.Second

// lookEvery is how often a write that was forwarded looks whether another node
// leads meanwhile. One that hangs does not say that it was replaced.
const lookEvery = forwardTimeout / 20

// write has an encoded batch applied by the leader of a set: the replica here,
// or the one to which it is forwarded, once.
func (r *Router) write(ctx context.Context, set quorate.ReplicaSetID, batch []byte) (*wire.BatchResult, error) {
	replica, err := r.replicas.Get(set)
	if err == nil {
		var result *wire.BatchResult
		if result, err = replica.Write(ctx, batch); err == nil {
			return result, nil
		}
	}
	if !r.mayForward(err) {
		return nil, err
	}
	payload, err := r.forward(ctx, methodWrite, setRequest{set, batch}, err)
	if err != nil {
		return nil, err
	}
	return wire.DecodeBatchResult(payload)
}

// delete has an encoded wire.Deletion applied by the leader of a set, as write
// has a batch.
func (r *Router) delete(ctx context.Context, set quorate.ReplicaSetID, deletion []byte) (*tsdbshard.DeleteResult, error) {
	replica, err := r.replicas.Get(set)
	if err == nil {
		var result *tsdbshard.DeleteResult
		if result, err = replica.Delete(ctx, deletion); err == nil {
			return result, nil
		}
	}
	if !r.mayForward(err) {
		return nil, err
	}
	payload, err := r.forward(ctx, methodDelete, setRequest{set, deletion}, err)
	if err != nil {
		return nil, err
	}
	return decodeDeleteResult(payload)
}

// mayForward tells whether another node may do what this one could not: there is
// no replica here that leads. Whatever a leader here has refused or is in doubt
// of, another node has no better answer to.
func (r *Router) mayForward(err error) bool {
	if r.peers == nil {
		return false
	}
	var notLeader *raftset.NotLeaderError
	return errors.Is(err, errNoReplica) || errors.As(err, &notLeader) ||
		errors.Is(err, raftset.ErrStopped) || errors.Is(err, raftset.ErrBroken) || errors.Is(err, tsdbshard.ErrNotOpen)
}

// leaderIn returns the node that leads according to an error, zero when it does
// not say.
func leaderIn(err error) quorate.NodeID {
	var notLeader *raftset.NotLeaderError
	if errors.As(err, &notLeader) && notLeader.Leader.Replica != 0 {
		return notLeader.Leader.Node
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return refused.Leader
	}
	var replaced *replacedError
	if errors.As(err, &replaced) {
		return replaced.leader
	}
	return quorate.NodeID{}
}

// forward has a request answered by a set's leader. Who is asked leads, or says
// who does and is not asked again, or does not answer and another member is
// asked: all within one attempt of the retry loop, which pauses before the next.
// A request whose outcome is not known is sent again all the same, since applying
// it twice changes nothing. Local is why this node cannot do it itself.
func (r *Router) forward(ctx context.Context, method string, req setRequest, local error) ([]byte, error) {
	set, err := r.newestRecord(ctx, req.Set)
	if err != nil {
		return nil, err
	}
	known := leaderIn(local)
	s := r.searchLeader(set, known)
	s.tried = append(s.tried, r.self)
	encoded := req.encode()
	var errs []error
	for node, ok := s.next(); ok; node, ok = s.next() {
		payload, err := r.ask(ctx, node, method, encoded, func() quorate.NodeID {
			if leader := r.leaderFromHere(req.Set); leader != node && leader != known {
				return leader
			}
			return quorate.NodeID{}
		})
		r.metrics.forwarded.WithLabelValues(method, resultOf(err)).Inc()
		if err == nil {
			r.peerNotes.leads(node, req.Set)
			return payload, nil
		}
		if !isRetriable(err) {
			return nil, fmt.Errorf("set %v: %w", req.Set, err)
		}
		errs = append(errs, err)
		r.peerNotes.leadsNot(node, req.Set)
		leader := leaderIn(err)
		if leader != (quorate.NodeID{}) {
			s.prefer(leader)
		}
		if ctx.Err() != nil || leader == r.self {
			break // the next attempt finds it here
		}
	}
	if len(errs) == 0 {
		return nil, local // there is nobody else to ask
	}
	return nil, retriable(quorate.Errorf(quorate.Unavailable, "no node was found that leads set %v: %w", req.Set, errors.Join(append(errs, local)...)))
}

// newestRecord returns what the newest map has of a set.
func (r *Router) newestRecord(ctx context.Context, id quorate.ReplicaSetID) (*metasvc.ReplicaSet, error) {
	m, err := r.meta.AwaitMap(ctx, nil)
	if err != nil {
		return nil, err
	}
	if set := m.Set(id); set != nil {
		return set, nil
	}
	return nil, retriable(quorate.Errorf(quorate.Unavailable, "set %v is not in this node's map any more", id))
}

// ask sends a request to a node and returns the payload of its outcome. A
// refusal is its error; an error without an answer is retriable, unless the node
// said something that no other attempt would change. Successor is asked when no
// answer came for a while: who leads instead of that node meanwhile, from whom
// nothing is to be hoped for any more; zero for nobody.
func (r *Router) ask(ctx context.Context, node quorate.NodeID, method string, req []byte, successor func() quorate.NodeID) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, forwardTimeout)
	ctx, replace := context.WithCancelCause(ctx)
	looked := make(chan struct{})
	first := time.AfterFunc(lookEvery, func() {
		defer close(looked)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			if leader := successor(); leader != (quorate.NodeID{}) {
				replace(&replacedError{leader})
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	defer func() {
		cancel()
		if !first.Stop() {
			<-looked
		}
		replace(nil)
	}()
	return r.askPatiently(ctx, node, method, req)
}

// replacedError is why a node is not waited for any more: another leads.
type replacedError struct{ leader quorate.NodeID }

func (e *replacedError) Error() string {
	return fmt.Sprintf("it did not answer, and node %s leads meanwhile", e.leader.Name)
}

// askPatiently is ask without a bound of its own.
func (r *Router) askPatiently(ctx context.Context, node quorate.NodeID, method string, req []byte) ([]byte, error) {
	answer, err := r.peers.Call(ctx, node, method, req)
	if err != nil {
		return nil, r.noAnswer(ctx, node, err)
	}
	r.peerNotes.answered(node, true)
	o, err := decodeOutcome(answer)
	if err != nil {
		return nil, quorate.Errorf(quorate.Internal, "answer of node %s: %w", node.Name, err)
	}
	if o.Refusal != nil {
		o.Refusal.Node = node
		return nil, o.Refusal.asError()
	}
	return o.Payload, nil
}

// noAnswer makes the error of a call or stream that failed one that the retry
// loop knows, and remembers a node that did not answer.
func (r *Router) noAnswer(ctx context.Context, node quorate.NodeID, err error) error {
	var replaced *replacedError
	switch {
	case errors.As(context.Cause(ctx), &replaced):
		r.peerNotes.answered(node, false)
		return retriable(quorate.Errorf(quorate.Unavailable, "node %s: %w", node.Name, replaced))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		err = quorate.Errorf(quorate.Unavailable, "%w", err)
	case quorate.KindOf(err) != quorate.Unavailable:
		return err
	}
	if !errors.Is(ctx.Err(), context.Canceled) {
		r.peerNotes.answered(node, false)
	}
	return retriable(err)
}
