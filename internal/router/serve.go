package router

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
)

// Register has the router answer the routers of other nodes. What they forward
// is done by the replica here if it leads; nothing is forwarded a second time.
func (r *Router) Register(h Handlers) {
	h.Handle(methodWrite, r.handleWrite)
	h.Handle(methodDelete, r.handleDelete)
	h.Handle(methodCompact, r.handleCompact)
	h.HandleStream(methodPin, r.handlePin)
	h.HandleStream(methodSelect, r.handleSelect)
	h.HandleStream(methodLabels, r.handleLabels)
	h.HandleStream(methodExemplars, r.handleExemplars)
	h.Handle(methodMetadata, r.handleMetadata)
	h.Handle(methodStats, r.handleStats)
}

// handleWrite answers with an encoded wire.BatchResult.
func (r *Router) handleWrite(ctx context.Context, _ quorate.NodeID, req []byte) ([]byte, error) {
	return r.carryOut(req, func(replica *Replica, command []byte) ([]byte, error) {
		result, err := replica.Write(ctx, command)
		if err != nil {
			return nil, err
		}
		return wire.AppendBatchResult(nil, result), nil
	})
}

// handleDelete answers with an encoded tsdbshard.DeleteResult.
func (r *Router) handleDelete(ctx context.Context, _ quorate.NodeID, req []byte) ([]byte, error) {
	return r.carryOut(req, func(replica *Replica, command []byte) ([]byte, error) {
		result, err := replica.Delete(ctx, command)
		if err != nil {
			return nil, err
		}
		return appendDeleteResult(nil, result), nil
	})
}

// handleCompact answers when the replica here has written its samples anew.
func (r *Router) handleCompact(ctx context.Context, _ quorate.NodeID, req []byte) ([]byte, error) {
	return r.carryOut(req, func(replica *Replica, _ []byte) ([]byte, error) {
		return nil, r.compactHere(ctx, replica)
	})
}

// carryOut does with the replica of a set what a request asks for.
func (r *Router) carryOut(b []byte, do func(replica *Replica, command []byte) ([]byte, error)) ([]byte, error) {
	req, err := decodeSetRequest(b)
	if err != nil {
		return nil, err
	}
	replica, err := r.replicas.Get(req.Set)
	var o outcome
	if err == nil {
		o.Payload, err = do(replica, req.Command)
	}
	if err != nil {
		o = outcome{Refusal: r.refusalOf(err)}
	}
	return o.encode(), nil
}

// refusalOf says to another node why something was not done.
func (r *Router) refusalOf(err error) *refusal {
	refused := &refusal{Retriable: isRetriable(err), Kind: quorate.KindOf(err), Text: err.Error()}
	// It may think that it leads itself, but for a moment: then it is no hint.
	if leader := leaderIn(err); leader != r.self {
		refused.Leader = leader
	}
	// Another node may be better off, whatever it is that is broken here.
	if errors.Is(err, raftset.ErrBroken) || errors.Is(err, errNoReplica) {
		refused.Retriable = true
	}
	var kinded *quorate.Error
	if errors.As(err, &kinded) {
		refused.RetryAfter = max(kinded.RetryAfter, 0).Round(time.Millisecond)
	}
	return refused
}
