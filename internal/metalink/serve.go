package metalink

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// watchTick bounds how long a watcher does not know of log entries that change
// no metadata. It waits for them only once a term.
const watchTick = 200 * time.Millisecond

// errNoReplica is what a node without a replica answers with.
var errNoReplica = quorate.Errorf(quorate.Unavailable, "this node has no replica of the metadata group")

// handle lets the port answer for this node.
func (l *Link) handle() {
	p := l.cfg.Port
	p.HandleStranger(methodJoin, l.serveJoin)
	p.Handle(methodPropose, func(ctx context.Context, from quorate.NodeID, command []byte) ([]byte, error) {
		if err := l.refuseRemoved(from); err != nil {
			return nil, err
		}
		return l.servePropose(ctx, command)
	})
	p.Handle(methodConfirm, l.serveConfirm)
	p.Handle(methodHeartbeat, l.serveHeartbeat)
	p.Handle(methodSeed, l.serveSeed)
	p.HandleStream(methodWatch, l.serveWatch)
}

// refuseRemoved refuses what a node that was removed from the cluster may not do
// any more. It may still watch, which is how it learns of that.
func (l *Link) refuseRemoved(from quorate.NodeID) error {
	if m := l.currentMap(); m != nil {
		if n := m.Node(from); n != nil && n.State == metasvc.NodeRemoved {
			return quorate.Errorf(quorate.Invalid, "node %s was removed from the cluster", from)
		}
	}
	return nil
}

// asLeader answers a request that is the leader's by what lead does, if the
// local replica leads, else by who does.
func (l *Link) asLeader(lead func(*replica) (result []byte, err error)) ([]byte, error) {
	r, _ := l.local()
	if r.leads() {
		result, err := lead(r)
		if err == nil {
			return encodeAnswer(answer{led: true, index: r.group.Status().AppliedIndex, result: result}), nil
		}
		if !errors.As(err, new(*raftset.NotLeaderError)) {
			return nil, err
		}
	}
	leader := l.Leader()
	if leader == l.cfg.Self {
		leader = quorate.NodeID{} // it has just lost it
	}
	return encodeAnswer(answer{leader: MetaNode{leader, l.addressOf(leader)}}), nil
}

func (l *Link) servePropose(ctx context.Context, command []byte) ([]byte, error) {
	// In the log bytes that nobody can decode would stop every replica.
	if _, err := metasvc.DecodeCommand(command); err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "metadata command: %w", err)
	}
	return l.asLeader(func(r *replica) ([]byte, error) {
		result, err := r.propose(ctx, command)
		if err != nil {
			return nil, err
		}
		return metasvc.AppendResult(nil, result), nil
	})
}

// serveJoin takes the one command that a node in no cluster may propose: to
// admit itself.
func (l *Link) serveJoin(ctx context.Context, from quorate.NodeID, command []byte) ([]byte, error) {
	c, err := metasvc.DecodeCommand(command)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "metadata command: %w", err)
	}
	admit, ok := c.(metasvc.AdmitNode)
	if !ok || admit.Node.ID != from {
		return nil, quorate.Errorf(quorate.Invalid, "node %s may join only as itself", from)
	}
	return l.servePropose(ctx, command)
}

// serveConfirm confirms another node's map. That is noted before the answer
// leaves, since the other's map lease may hold from then on (PROTOCOL 8).
func (l *Link) serveConfirm(ctx context.Context, from quorate.NodeID, _ []byte) ([]byte, error) {
	if err := l.refuseRemoved(from); err != nil {
		return nil, err
	}
	return l.asLeader(func(r *replica) ([]byte, error) {
		if _, err := r.group.ConfirmRead(ctx); err != nil {
			return nil, err
		}
		l.cfg.Beats.Confirm(from)
		return nil, nil
	})
}

func (l *Link) serveHeartbeat(_ context.Context, from quorate.NodeID, request []byte) ([]byte, error) {
	if err := l.refuseRemoved(from); err != nil {
		return nil, err
	}
	beat, err := metasvc.DecodeHeartbeat(request)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "heartbeat: %w", err)
	}
	if beat.Node != from {
		return nil, quorate.Errorf(quorate.Invalid, "heartbeat of %s came from %s", beat.Node, from)
	}
	return l.asLeader(func(*replica) ([]byte, error) {
		l.cfg.Beats.Record(beat)
		return nil, nil
	})
}

// serveSeed gives what a new replica of the metadata group starts from. Any
// replica can.
func (l *Link) serveSeed(context.Context, quorate.NodeID, []byte) ([]byte, error) {
	r, _ := l.local()
	if r == nil {
		return nil, errNoReplica
	}
	return r.group.Seed(), nil
}

// serveWatch streams the changes after an index. Any replica can. Where the
// log has moved on by entries that change no metadata, the batch says so, so
// that the watcher's state machine keeps up with what the leader confirms.
func (l *Link) serveWatch(ctx context.Context, _ quorate.NodeID, request []byte, send func([]byte) error) error {
	from, err := decodeWatch(request)
	if err != nil {
		return quorate.Errorf(quorate.Invalid, "%w", err)
	}
	r, _ := l.local()
	if r == nil {
		return errNoReplica
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer onClose(r.gone, func() { cancel(errNoReplica) })()
	watch := r.machine.Watch(from)
	at := from
	var frame []byte
	for {
		// Whatever is up to here is in the batch that is taken after it.
		applied := r.group.Status().AppliedIndex
		batch, err := nextTo(ctx, watch, at, applied)
		if err != nil {
			return err
		}
		if batch.To <= at && !batch.Whole {
			continue
		}
		at = batch.To
		frame = metasvc.AppendBatch(frame[:0], batch)
		if err := send(frame); err != nil {
			return err
		}
	}
}

// nextTo is the watch's Next for a watcher that is at an index, of a replica
// that had applied the log up to another when the call began. The batch leads
// at least to there, and may be empty: nothing more came for a while.
func nextTo(ctx context.Context, watch *metasvc.Watch, at, applied uint64) (metasvc.Batch, error) {
	patience := watchTick
	if applied > at {
		patience = 0 // what is there is to be told now
	}
	tick, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	batch, err := watch.Next(tick)
	switch {
	case ctx.Err() != nil:
		return metasvc.Batch{}, quorate.Errorf(quorate.Unavailable, "%w", context.Cause(ctx))
	case errors.Is(err, context.DeadlineExceeded):
		err = nil
	case err != nil:
		return metasvc.Batch{}, quorate.Errorf(quorate.Unavailable, "%w", err)
	}
	batch.To = max(batch.To, applied)
	return batch, nil
}

// onClose calls f once a channel is closed, until stop is called.
func onClose(c <-chan struct{}, f func()) (stop func()) {
	stopped := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-c:
			f()
		case <-stopped:
		}
	}()
	return func() {
		close(stopped)
		<-ended
	}
}

func encodeWatch(from uint64) []byte {
	return binary.AppendUvarint([]byte{version}, from)
}

func decodeWatch(b []byte) (from uint64, err error) {
	c, err := begin(b, "watch")
	if err != nil {
		return 0, err
	}
	from = c.Uvarint()
	if err := c.Finish(errDamaged, "watch"); err != nil {
		return 0, fmt.Errorf("watch request: %w", err)
	}
	return from, nil
}
