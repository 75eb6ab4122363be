package raftset

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// fence is the entry that ConfirmRead proposes once a term. It is the one entry
// that raftset itself writes; all others are wire entries, which start "QE".
const fence = "QF\x01"

func isFence(data []byte) bool { return string(data) == fence }

// scratch is what encoding an entry needs, shared by all groups of a host so
// that idle ones hold none.
type scratch struct {
	encoder  wire.Encoder
	entry    []byte
	commands [][]byte
}

// worthwhileBytes of commands are an entry of their own whatever is in flight.
// Less waits until nothing is: an entry costs each replica an fsync, a message
// and a dozen hand-overs between goroutines, however little is in it.
const worthwhileBytes = 32 << 10

// proposer joins the commands of one group into entries: while one entry is on
// its way, whatever arrives meanwhile becomes the next ("natural batching"), so
// that batches grow with load and a lone command waits for nobody.
type proposer struct {
	group   *Group
	queue   *queue
	flights *flights
	done    chan struct{}

	// encoding is held from taking calls out of the queue until their commands
	// have been copied into an entry, so that a caller who gives up can wait
	// until its command is no longer read.
	encoding sync.Mutex
	// gate has room for whoever hands an entry to the library, or sees to it
	// that nobody does.
	gate chan struct{}
}

func newProposer(g *Group) *proposer {
	return &proposer{
		group:   g,
		queue:   newQueue(g.host.cfg.QueueBytes),
		flights: newFlights(g.host.cfg.InFlight),
		done:    make(chan struct{}),
		gate:    make(chan struct{}, 1),
	}
}

// Propose replicates a command and returns what the state machine answered to
// it. Commands that wait at the same time are joined into one entry per kind;
// each gets its own result. The command may be reused when Propose returns.
//
// Errors are of kind Unavailable and wrap a NotLeaderError, ErrOverloaded,
// ErrNoSpace, ErrStopped, ErrBroken or ErrOutcomeUnknown; only with the last may the
// command take effect. A command over 16 MiB is refused with kind TooLarge.
func (g *Group) Propose(ctx context.Context, kind wire.Kind, command []byte) (any, error) {
	if len(command) > maxCommandBytes {
		return nil, quorate.Errorf(quorate.TooLarge, "set %d: command of %d bytes is over the limit of %d", g.set, len(command), maxCommandBytes)
	}
	start := time.Now()
	value, err := g.proposer.propose(ctx, kind, command)
	if err != nil {
		return nil, err
	}
	m := g.host.metrics
	m.applied.Inc()
	m.proposeSeconds.Observe(time.Since(start).Seconds())
	return value, nil
}

func (p *proposer) propose(ctx context.Context, kind wire.Kind, command []byte) (any, error) {
	g := p.group
	m := g.host.metrics
	if err := ctx.Err(); err != nil {
		m.rejected.Inc()
		return nil, p.gaveUp(err)
	}
	if _, leader := g.Leadership(); !leader {
		m.rejected.Inc()
		return nil, g.refusal()
	}
	// A fence is what confirms reads, which go on.
	if kind != kindFence && g.host.cfg.Exhausted() {
		m.rejected.Inc()
		return nil, fmt.Errorf("set %d: %w", g.set, ErrNoSpace)
	}
	c := g.host.calls.Get().(*call)
	c.kind, c.command = kind, command
	if err := p.queue.add(c); err != nil {
		g.host.release(c)
		if err == ErrOverloaded { //nolint:errorlint // the queue returns it bare
			m.overloaded.Inc()
			return nil, fmt.Errorf("set %d: %w: %d bytes of commands wait", g.set, err, p.queue.limit)
		}
		m.rejected.Inc()
		return nil, err
	}
	m.queuedBytes.Add(float64(len(command)))
	select {
	case o := <-c.done:
		g.host.release(c)
		return o.value, o.err
	case <-ctx.Done():
		return p.abandon(ctx, c)
	}
}

// abandon gives a call up. It returns once nobody reads the command any more.
func (p *proposer) abandon(ctx context.Context, c *call) (any, error) {
	p.encoding.Lock()
	waiting := p.queue.remove(c)
	p.encoding.Unlock()
	m := p.group.host.metrics
	if waiting {
		m.queuedBytes.Sub(float64(len(c.command)))
		m.rejected.Inc()
		return nil, p.gaveUp(ctx.Err())
	}
	select {
	case o := <-c.done:
		return o.value, o.err
	default:
		m.unknown.Inc()
		return nil, fmt.Errorf("set %d: %w: %w while it was in flight", p.group.set, ErrOutcomeUnknown, ctx.Err())
	}
}

func (p *proposer) gaveUp(cause error) error {
	return quorate.Errorf(quorate.Unavailable, "set %d: not proposed: %w", p.group.set, cause)
}

// run is the group's batcher. It ends when the queue is closed.
func (p *proposer) run() {
	defer close(p.done)
	for range p.queue.ready {
		for p.next() {
		}
		if p.queue.isClosed() {
			return
		}
	}
}

// next proposes one entry of the calls that wait, and tells whether there were any.
func (p *proposer) next() bool {
	if !p.await() {
		return false
	}
	select {
	case p.flights.slots <- struct{}{}:
	case <-p.group.guard.halted:
		return false
	}
	select {
	case p.gate <- struct{}{}:
	case <-p.group.guard.halted:
		<-p.flights.slots
		return false
	}
	defer func() { <-p.gate }()
	f := p.encode()
	if f == nil {
		<-p.flights.slots
		return false
	}
	p.submit(f)
	return true
}

// await waits until an entry is due: at once while nothing is in flight, and
// else when enough waits. It returns false when nothing does, or Raft stops.
func (p *proposer) await() bool {
	for {
		switch bytes, calls := p.queue.waiting(); {
		case calls == 0:
			return false
		case bytes >= worthwhileBytes || p.flights.empty():
			return true
		}
		select {
		case <-p.queue.plenty:
		case <-p.flights.landed:
		case <-p.group.guard.halted:
			return false
		}
	}
}

// hold has proposals wait until release is called: none is on its way to the
// library when it returns. A leader that hands over refuses entries in a way
// that submit cannot see.
func (p *proposer) hold(ctx context.Context) (release func(), err error) {
	select {
	case p.gate <- struct{}{}:
		return func() { <-p.gate }, nil
	case <-ctx.Done():
		return nil, p.gaveUp(ctx.Err())
	case <-p.group.guard.halted:
		return nil, p.group.refusal()
	}
}

// encode joins waiting calls into an entry. The entry's memory is its own and
// never reused: the library, its caches and followers hold on to it.
func (p *proposer) encode() *flight {
	p.encoding.Lock()
	defer p.encoding.Unlock()
	calls := p.queue.take(nil, p.group.host.cfg.BatchBytes)
	if len(calls) == 0 {
		return nil
	}
	if calls[0].kind == kindFence {
		return &flight{data: []byte(fence), calls: calls}
	}
	m := p.group.host.metrics
	s := p.group.host.scratch.Get().(*scratch)
	defer p.group.host.scratch.Put(s)
	bytes := 0
	s.commands = s.commands[:0]
	for _, c := range calls {
		s.commands = append(s.commands, c.command)
		bytes += len(c.command)
	}
	s.entry = s.encoder.Append(s.entry[:0], calls[0].kind, s.commands...)
	clear(s.commands)
	m.queuedBytes.Sub(float64(bytes))
	m.entries.Inc()
	m.entryBytes.Add(float64(len(s.entry)))
	m.entryCommands.Observe(float64(len(calls)))
	return &flight{data: slices.Clone(s.entry), calls: calls}
}

// submit hands an entry to Raft's main loop and returns when the loop has taken
// it, which is when the entry before it is on disk.
//
// The loop answers only to the future, which is not waited for (see flights).
// It refuses an entry only while it does not lead, or hands over (see hold); so if this replica led in
// the same term before and after, the entry was accepted, and from then on only
// the loss of that term can lose it, which the supervisor notices.
func (p *proposer) submit(f *flight) {
	g := p.group
	term, leader := g.Leadership()
	if !leader {
		<-p.flights.slots
		g.host.metrics.rejected.Add(float64(len(f.calls)))
		f.settle(g.refusal())
		return
	}
	f.term = term
	p.flights.push(f)
	g.raft.ApplyLog(raft.Log{Data: f.data}, 0)
	if now, leader := g.Leadership(); !leader || now != term {
		if p.flights.drop(f) {
			p.lose([]*flight{f})
		}
	}
}

// land hands out the results of an applied entry.
func (p *proposer) land(data []byte, results []any) error {
	f, lost := p.flights.land(data)
	p.lose(lost)
	if f == nil {
		return nil
	}
	if !isFence(data) && len(results) != len(f.calls) {
		f.settle(p.group.unknown("the state machine answered otherwise than it was asked"))
		return fmt.Errorf("the state machine gave %d results to an entry of %d commands", len(results), len(f.calls))
	}
	for i, c := range f.calls {
		o := outcome{}
		if i < len(results) {
			o.value = results[i]
		}
		c.done <- o
	}
	return nil
}

// lose settles flights whose fate this replica will not learn.
func (p *proposer) lose(lost []*flight) {
	for _, f := range lost {
		p.group.host.metrics.unknown.Add(float64(len(f.calls)))
		f.settle(p.group.unknown("leadership was lost"))
	}
}

// close refuses what waits and what comes. What is in flight stays.
func (p *proposer) close(reason error) {
	m := p.group.host.metrics
	for _, c := range p.queue.close(reason) {
		m.queuedBytes.Sub(float64(len(c.command)))
		m.rejected.Inc()
		c.done <- outcome{err: reason}
	}
}
