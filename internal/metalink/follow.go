package metalink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

const (
	// A watch that failed is begun anew, at another node, after a pause that
	// grows from the one to the other.
	shortestPause = 20 * time.Millisecond
	longestPause  = time.Second
	// joinPause is how soon a node tries to join again.
	joinPause = 250 * time.Millisecond
	// beatTimeout bounds the sending of one heartbeat.
	beatTimeout = 2 * time.Second
)

// errSource ends a watch whose source is to be another.
var errSource = errors.New("another node is to be followed")

// Follow feeds the configured state machine until ctx ends, whose error it
// returns: from the metadata nodes in turn where there is no local replica, or
// from the local replica's own state machine. While that is the configured one
// there is nothing to do.
func (l *Link) Follow(ctx context.Context) error {
	pause := shortestPause
	var last quorate.NodeID
	for {
		r, changed := l.local()
		began := l.cfg.Machine.AppliedIndex()
		var err error
		switch {
		case r != nil && r.machine == l.cfg.Machine:
			select {
			case <-changed:
			case <-ctx.Done():
			}
		case r != nil:
			err = l.followLocal(ctx, r)
		default:
			last, err = l.followRemote(ctx, last)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if l.cfg.Machine.AppliedIndex() > began {
			pause = shortestPause
		}
		if err == nil || errors.Is(err, errSource) {
			continue
		}
		l.logger.Debug("metadata watch ended", "node", last.Name, "err", err)
		if err := wait(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, longestPause)
	}
}

// wait waits for a time, or returns ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// followLocal follows the local replica until it is gone.
func (l *Link) followLocal(ctx context.Context, r *replica) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer onClose(r.gone, func() { cancel(errSource) })()
	watch := r.machine.Watch(l.cfg.Machine.AppliedIndex())
	for {
		applied := r.group.Status().AppliedIndex
		batch, err := nextTo(ctx, watch, l.cfg.Machine.AppliedIndex(), applied)
		if err != nil {
			return err
		}
		if err := l.cfg.Machine.Follow(batch); err != nil {
			return err
		}
	}
}

// followRemote follows the node after last, of those that may have a replica,
// until the watch ends. It returns which one that was.
func (l *Link) followRemote(ctx context.Context, last quorate.NodeID) (quorate.NodeID, error) {
	nodes := l.candidates()
	if len(nodes) == 0 {
		nodes = l.lookAround(ctx)
	}
	if len(nodes) == 0 {
		return quorate.NodeID{}, errors.New("no metadata node is known")
	}
	node := nodes[(slices.Index(nodes, last)+1)%len(nodes)]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if !l.setWatching(cancel) {
		return node, errSource
	}
	defer l.setWatching(nil)
	if err := l.follow(ctx, node, l.cfg.Machine.AppliedIndex()); !errors.Is(err, metasvc.ErrCorrupt) {
		return node, err
	}
	// What this node has and what came do not fit together.
	l.logger.Warn("metadata watch gave what cannot be; it is read anew", "node", node.Name)
	return node, l.follow(ctx, node, 0)
}

// setWatching notes the watch that Follow is at; false tells that there is a
// local replica by now.
func (l *Link) setWatching(cancel context.CancelCauseFunc) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watching = cancel
	return l.replica == nil
}

// leaveSource makes Follow go on to another node.
func (l *Link) leaveSource() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watching != nil {
		l.watching(errSource)
	}
}

// follow feeds the state machine from a node until the watch ends.
func (l *Link) follow(ctx context.Context, node quorate.NodeID, from uint64) error {
	recv, err := l.cfg.Port.Stream(ctx, node, methodWatch, encodeWatch(from))
	if err != nil {
		return err
	}
	l.metrics.watches.Inc()
	for {
		frame, err := recv()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		batch, err := metasvc.DecodeBatch(frame)
		if err != nil {
			return fmt.Errorf("metadata batch of node %s: %w", node.Name, err)
		}
		if err := l.cfg.Machine.Follow(batch); err != nil {
			return fmt.Errorf("metadata batch of node %s: %w", node.Name, err)
		}
	}
}

// Join admits this node to the cluster, or tells it what has changed about the
// node. It tries until ctx ends, or until the leader refuses, whose error has
// the refusal's kind. It does not wait until this node knows of it.
func (l *Link) Join(ctx context.Context, spec metasvc.NodeSpec) (metasvc.AdmitNodeResult, error) {
	command := metasvc.EncodeCommand(metasvc.AdmitNode{Node: spec})
	for {
		result, err := l.join(ctx, command)
		if err == nil || quorate.KindOf(err) != quorate.Unavailable {
			return result, err
		}
		l.logger.Debug("cluster could not be joined yet", "err", err)
		if wait(ctx, joinPause) != nil {
			return metasvc.AdmitNodeResult{}, fmt.Errorf("join the cluster: %w", err)
		}
	}
}

func (l *Link) join(ctx context.Context, command []byte) (none metasvc.AdmitNodeResult, err error) {
	var result any
	if r, _ := l.local(); r.leads() {
		result, err = l.Propose(ctx, command)
	} else if a, asked := l.ask(ctx, methodJoin, command, again); asked != nil {
		err = asked
	} else {
		result, err = metasvc.DecodeResult(a.result)
	}
	if err != nil {
		return none, err
	}
	switch result := result.(type) {
	case metasvc.AdmitNodeResult:
		return result, nil
	case *metasvc.Refusal:
		return none, &quorate.Error{Kind: result.Kind(), Err: fmt.Errorf("join the cluster: %w", result)}
	}
	return none, quorate.Errorf(quorate.Internal, "join the cluster: it was answered with a %T", result)
}

// Beat sends a heartbeat to the leader, this node perhaps, each time that a
// period passes, until ctx ends, whose error it returns. The first one is sent
// at once.
func (l *Link) Beat(ctx context.Context, every time.Duration, beat func() metasvc.Heartbeat) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	reached := true
	for {
		err := l.beat(ctx, beat())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if now := err == nil; now != reached {
			reached = now
			if now {
				l.logger.Info("heartbeats reach the metadata leader again")
			} else {
				l.logger.Warn("heartbeats do not reach the metadata leader", "err", err)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *Link) beat(ctx context.Context, beat metasvc.Heartbeat) error {
	if r, _ := l.local(); r.leads() {
		l.cfg.Beats.Record(beat)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	_, err := l.ask(ctx, methodHeartbeat, metasvc.AppendHeartbeat(nil, beat), again)
	return err
}

// Seed returns what a new replica of the metadata group on this node starts
// from, of the first node that has one.
func (l *Link) Seed(ctx context.Context) ([]byte, error) {
	errs := []error{errors.New("no metadata node is known")}
	for i, node := range l.candidates() {
		seed, err := l.cfg.Port.Call(ctx, node, methodSeed, nil)
		if err == nil {
			return seed, nil
		}
		errs = append(errs[:min(i, len(errs))], err)
	}
	return nil, quorate.Errorf(quorate.Unavailable, "seed of the metadata group: %w", errors.Join(errs...))
}
