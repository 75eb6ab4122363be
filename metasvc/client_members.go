package metasvc

import (
	"context"

	"github.com/quorate/quorate"
)

// BeginMembers begins to change a set's members: a replica joins on the node add
// (zero: none does), and the replica remove leaves (0: none does). It returns when
// that is recorded, with the number of the intent, or 0 when the change is done
// with it; the set's leader carries it out, or of a sealed set the replica that
// joins, and the map shows it. The same change may be asked for again. The error
// is of kind Invalid or NotFound for a change that cannot be, Unavailable for one
// that something under way keeps from being begun, or that would leave too few
// replicas that are well.
func (c *Client) BeginMembers(ctx context.Context, set quorate.ReplicaSetID, add quorate.NodeID, remove quorate.ReplicaID) (IntentID, error) {
	begun, err := propose[IntentResult](ctx, c.cfg.Leader, BeginMembers{Set: set, Add: add, Remove: remove})
	if err != nil {
		return 0, err
	}
	_, err = c.awaitVersion(ctx, begun.Index)
	return begun.Intent, err
}

// ConfirmIntent tells metasvc that a set's own log made a change of members a fact,
// at an index of that log (PROTOCOL 4). When it returns nil the map has the change. It may be called again. The error is of kind
// Unavailable also for an intent that is not under way any more.
func (c *Client) ConfirmIntent(ctx context.Context, set quorate.ReplicaSetID, intent IntentID, logIndex uint64) error {
	return c.confirm(ctx, ConfirmIntent{Set: set, Intent: intent, LogIndex: logIndex})
}

// ConfirmBoundsIntent is ConfirmIntent of a change of bounds, with the time (ms) of
// the newest sample that the set had as its log made them a fact: one at or past
// their end is read from the set for ever (PROTOCOL 13).
func (c *Client) ConfirmBoundsIntent(ctx context.Context, set quorate.ReplicaSetID, intent IntentID, logIndex uint64, newest int64) error {
	return c.confirm(ctx, ConfirmIntent{Set: set, Intent: intent, LogIndex: logIndex, Newest: newest})
}

func (c *Client) confirm(ctx context.Context, command ConfirmIntent) error {
	confirmed, err := propose[IntentResult](ctx, c.cfg.Leader, command)
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, confirmed.Index)
	return err
}

// ReportJoined tells metasvc that a replica of this node, which joins a sealed set,
// has the set's file. When it returns nil the replica is a member. It may be called
// again. The error is of kind Unavailable for one that is not to join any more.
func (c *Client) ReportJoined(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	joined, err := propose[ReportJoinedResult](ctx, c.cfg.Leader, ReportJoined{Set: set, Replica: replica})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, joined.Index)
	return err
}

// ReportLeft tells metasvc that the files of a replica of this node, which has left
// its set, are out of the way (PROTOCOL 16). It may be called again.
func (c *Client) ReportLeft(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	left, err := propose[ReportLeftResult](ctx, c.cfg.Leader, ReportLeft{Set: set, Replica: replica})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, left.Index)
	return err
}
