package raftset

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// pipelineDepth is how many messages of entries are on their way to one member:
// the next travels while the last is being fsynced. More only make more entries
// wait there.
const pipelineDepth = 2

// maxPipelinedLag is by how many entries a member may be behind while it is sent
// entries by a pipeline. The library's pipeline sends one message for each new
// entry, and else one for each commit timeout, so that a member which lacks
// thousands would be minutes behind once nothing new comes; without a pipeline
// the library sends message after message until the member has all.
const maxPipelinedLag = 4 * maxAppendEntries

// pipeline sends entries to one member without waiting for each answer. The
// library uses it from one goroutine and reads the futures in another.
type pipeline struct {
	transport *peerTransport
	peer      raft.ServerID
	pending   chan *pipelined // in the order sent; one more is with the forwarder
	answers   chan raft.AppendFuture

	// failed is closed when something was not acknowledged. The library stops
	// reading answers at that one, and must not be kept waiting to send more.
	failed    chan struct{}
	closed    chan struct{}
	closeOnce sync.Once
}

// pipelined is one message of a pipeline. An error is known by Success being
// false: the library does not ask for it.
type pipelined struct {
	start    time.Time
	request  *raft.AppendEntriesRequest
	response *raft.AppendEntriesResponse
	err      error
	done     chan struct{}
}

// Error implements raft.Future.
func (f *pipelined) Error() error {
	<-f.done
	return f.err
}

// Start implements raft.AppendFuture.
func (f *pipelined) Start() time.Time { return f.start }

// Request implements raft.AppendFuture.
func (f *pipelined) Request() *raft.AppendEntriesRequest { return f.request }

// Response implements raft.AppendFuture.
func (f *pipelined) Response() *raft.AppendEntriesResponse { return f.response }

// AppendEntriesPipeline implements raft.Transport.
func (t *peerTransport) AppendEntriesPipeline(id raft.ServerID, _ raft.ServerAddress) (raft.AppendPipeline, error) {
	if err := t.over(); err != nil {
		return nil, err
	}
	p := &pipeline{
		transport: t, peer: id,
		pending: make(chan *pipelined, pipelineDepth-1),
		answers: make(chan raft.AppendFuture),
		failed:  make(chan struct{}),
		closed:  make(chan struct{}),
	}
	if !t.start(p.forward) {
		return nil, refuse(refusedStopped)
	}
	return p, nil
}

// AppendEntries implements raft.AppendPipeline. It blocks while as many messages
// are under way as may be.
func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	to, err := ParseMember(string(p.peer))
	if err != nil {
		return nil, err
	}
	if p.lag(args) > maxPipelinedLag {
		return nil, errTooFarBehind
	}
	l, err := p.transport.appendLetter(p.peer, args)
	if err != nil {
		return nil, err
	}
	f := &pipelined{start: time.Now(), request: args, response: resp, done: make(chan struct{})}
	select {
	case p.pending <- f:
	case <-p.failed:
		return nil, raft.ErrPipelineShutdown
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	case <-p.transport.closed:
		return nil, raft.ErrPipelineShutdown
	}
	if err := p.transport.over(); err != nil {
		f.settle(err)
		return nil, err
	}
	// Entries never overtake each other, so that even an empty message keeps to
	// their lane.
	p.transport.messenger.Send(to.Node, LaneData, l.message, dataTimeout, func(answer []byte, err error) {
		f.settle(p.land(f, to, answer, err))
	})
	return f, nil
}

// errTooFarBehind ends a pipeline to a member that needs more than a pipeline
// gives it.
var errTooFarBehind = errors.New("the member is too far behind for a pipeline")

// lag is how many entries the member lacks beyond those of a message.
func (p *pipeline) lag(args *raft.AppendEntriesRequest) uint64 {
	last := p.transport.group.raft.LastIndex()
	sent := args.PrevLogEntry + uint64(len(args.Entries))
	return last - min(sent, last)
}

// land reads an answer into its future's response, which stays empty if there
// is none.
func (p *pipeline) land(f *pipelined, to Member, answer []byte, err error) error {
	if err == nil {
		err = p.transport.over()
	}
	if err != nil {
		return err
	}
	var response raft.AppendEntriesResponse
	if err := p.transport.read(to, answer, &response); err != nil {
		return err
	}
	*f.response = response
	p.transport.noteAppend(p.peer, f.request, &response)
	return nil
}

func (f *pipelined) settle(err error) {
	f.err = err
	close(f.done)
}

// forward hands the futures on in order, up to the first that failed.
func (p *pipeline) forward() {
	for {
		var f *pipelined
		select {
		case f = <-p.pending:
		case <-p.closed:
			return
		case <-p.transport.closed:
			return
		}
		select {
		case <-f.done:
		case <-p.closed:
			return
		case <-p.transport.closed:
			return
		}
		failed := f.err != nil || !f.response.Success
		if failed {
			close(p.failed)
		}
		select {
		case p.answers <- f:
		case <-p.closed:
			return
		case <-p.transport.closed:
			return
		}
		if failed {
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.closeOnce.Do(func() { close(p.closed) })
	return nil
}
