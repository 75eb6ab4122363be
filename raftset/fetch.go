package raftset

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/quorate/quorate"
)

// fetches are a follower's preparations for manifests that its leader is about
// to install: beside Raft, one at a time, in a goroutine that lives as long.
type fetches struct {
	transport *peerTransport

	mu     sync.Mutex
	closed bool
	now    *fetching // nil while nothing is fetched
	last   fetchKey  // of the files that are here
}

// fetching is one fetch under way.
type fetching struct {
	what    fetchKey
	cancel  context.CancelFunc
	done    chan struct{}
	answers []func([]byte) // guarded by fetches.mu
}

// fetchKey tells one manifest of one leader from another.
type fetchKey struct {
	from        quorate.NodeID
	index, term uint64
	payload     [sha256.Size]byte // its hash
}

// has tells whether the files of a manifest were fetched, the last of all, since
// the replica opened; where none are ever fetched it needs none.
func (f *fetches) has(from quorate.NodeID, index, term uint64, payload []byte) bool {
	if f.transport.group.host.cfg.Fetch == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now == nil && f.last == fetchKey{from: from, index: index, term: term, payload: sha256.Sum256(payload)}
}

// take begins to fetch what a manifest names. A leader that asks again, having
// lost patience, waits with whom it asked first; another manifest takes the
// place of the one that is being fetched.
func (f *fetches) take(in inbound) error {
	g := f.transport.group
	p, err := readPrepare(in.body)
	if err != nil {
		return err
	}
	if p.term < g.raft.CurrentTerm() {
		return refuse(refusedStale)
	}
	if g.host.cfg.Fetch == nil {
		answer, err := reply(nil)
		if err == nil {
			in.answer(answer)
		}
		return err
	}
	what := fetchKey{from: in.sender.Node, index: p.index, term: p.manifestTerm, payload: sha256.Sum256(p.payload)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return refuse(refusedStopped)
	}
	before := f.now
	if before != nil && before.what == what {
		before.answers = append(before.answers, in.answer)
		return nil
	}
	ctx, cancel := context.WithCancel(g.machine.lifetime)
	next := &fetching{what: what, cancel: cancel, done: make(chan struct{}), answers: []func([]byte){in.answer}}
	if before != nil {
		before.cancel()
	}
	f.now, f.last = next, fetchKey{}
	f.transport.running.Go(func() {
		defer cancel()
		if before != nil {
			<-before.done
		}
		f.finish(next, f.fetch(ctx, in.sender.Node, p.payload))
	})
	return nil
}

func (f *fetches) fetch(ctx context.Context, from quorate.NodeID, payload []byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = panicError("fetching a manifest's files", r)
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	g := f.transport.group
	if err := g.host.cfg.Fetch(ctx, g.set, g.local.Replica, from, payload); err != nil {
		return fmt.Errorf("fetch the manifest's files: %w", err)
	}
	return f.transport.over()
}

// finish answers everybody who asked for a fetch.
func (f *fetches) finish(done *fetching, err error) {
	f.mu.Lock()
	if f.now == done {
		f.now = nil
		if err == nil {
			f.last = done.what
		}
	}
	answers := done.answers
	f.mu.Unlock()
	close(done.done)
	answer, encoding := reply(nil)
	if err == nil {
		err = encoding
	}
	if err != nil {
		f.transport.group.logger.Warn("fetching a manifest's files failed", "from", done.what.from, "index", done.what.index, "err", err)
		answer = refusal(err)
	}
	for _, tell := range answers {
		tell(answer)
	}
}

// close ends the fetch under way; its goroutine answers who waits for it.
func (f *fetches) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	if f.now != nil {
		f.now.cancel()
	}
}
