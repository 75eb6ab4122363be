package raftset

import "context"

// ConfirmRead returns nil once reading the local state machine is linearizable:
// the read sees every write that was acknowledged before ConfirmRead began. The
// term is that in which this replica led. Errors are as those of Propose.
//
// The steps must come in this order (PROTOCOL 24): an entry of this term has been
// applied, which brings everything that earlier leaders acknowledged; a quorum
// has answered what was sent after the call began, or its promises last at a
// moment after that; and only then is leadership looked at, since a leader that
// stepped down may have voted for another since. With one voter the quorum round
// is empty; with more it is the transport's, and shared by all reads that wait.
func (g *Group) ConfirmRead(ctx context.Context) (uint64, error) {
	term, leader := g.Leadership()
	if !leader {
		return 0, g.refusal()
	}
	if g.machine.term.Load() < term {
		// Once a term and group: nothing of this term was applied yet.
		if _, err := g.proposer.propose(ctx, kindFence, nil); err != nil {
			return 0, err
		}
	}
	if err := g.transport.confirmQuorum(ctx, term); err != nil {
		return 0, err
	}
	if now, leader := g.Leadership(); !leader || now != term {
		return 0, g.refusal()
	}
	return term, nil
}
