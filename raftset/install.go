package raftset

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/raft"
)

// maxInstalls is how often a leader installs one manifest before it is taken to
// be of no help.
const maxInstalls = 2

// installs is what an inbox knows of the manifest that was installed last.
type installs struct {
	index uint64
	times int // in a row
}

// install has the library install a manifest, whose files must have been fetched
// in this replica's present life.
//
// What the replica has already it only acknowledges: the message may have come
// late or twice, and the library would install it again, and delete entries behind
// it that were acknowledged since; Raft's own rule, that an installation keeps
// what follows an entry which the log has, it does not know.
func (b *inbox) install(in inbound, header raft.RPCHeader) ([]byte, error) {
	r, payload, err := readInstall(in.body)
	if err != nil {
		return nil, err
	}
	r.RPCHeader = header
	g := b.transport.group
	term := g.raft.CurrentTerm()
	if r.Term >= term && g.has(r.LastLogIndex, r.LastLogTerm) {
		b.watchInstall(r.LastLogIndex)
		return reply(&raft.InstallSnapshotResponse{RPCHeader: header, Term: term, Success: true})
	}
	if r.Term >= term && !b.transport.fetches.has(in.sender.Node, r.LastLogIndex, r.LastLogTerm, payload) {
		return nil, fmt.Errorf("the files of the manifest at index %d were not fetched since replica %d opened", r.LastLogIndex, g.local.Replica)
	}
	response, err := b.consume(raft.RPC{Command: r, Reader: bytes.NewReader(payload)})
	if err != nil {
		return nil, err
	}
	if installed, ok := response.(*raft.InstallSnapshotResponse); ok && installed.Success {
		b.watchInstall(r.LastLogIndex)
	}
	return reply(response)
}

// has tells whether this replica durably has all that was committed up to an
// index, at which the entry is of a term: in its manifest, or in its log.
func (g *Group) has(index, term uint64) bool {
	if m := g.manifests.current(); m.index >= index {
		return true
	}
	var l raft.Log
	return g.log.GetLog(index, &l) == nil && l.Term == term
}

// watchInstall fails a replica that a manifest at an index does not help. After an
// installation onto a log that was longer than it or another's, the library goes
// on with the old log's end in mind, though the log is gone: it refuses all that
// follows, is sent the manifest again, and so for ever (hashicorp/raft#697). A
// replica that opens anew reads its log's end from the log.
func (b *inbox) watchInstall(index uint64) {
	g, last := b.transport.group, &b.installed
	if last.index != index {
		*last = installs{index: index}
	}
	last.times++
	stored, err := g.log.LastIndex()
	switch end := g.raft.LastIndex(); {
	case err == nil && stored < index && end > index:
		g.guard.fail(fmt.Errorf("the manifest at index %d was installed over a log that ended at %d: %w", index, end, ErrReopen))
	case last.times > maxInstalls:
		g.guard.fail(fmt.Errorf("the manifest at index %d was sent %d times: %w", index, last.times, ErrReopen))
	}
}
