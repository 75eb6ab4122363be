package metasvc

import (
	"context"
	"slices"

	"github.com/quorate/quorate"
)

// RequestSeal has open sets sealed although they are not due; those that are
// sealed or being sealed are left as they are. It returns when the request is
// recorded; the map shows the seal. The error is of kind Invalid when the end
// of a set's bucket is ahead of the clock, NotFound for an unknown set, else
// Unavailable.
func (c *Client) RequestSeal(ctx context.Context, sets []quorate.ReplicaSetID) error {
	if len(sets) == 0 {
		return nil
	}
	if err := c.ConfirmMap(ctx); err != nil {
		return err
	}
	m, now := c.Map(), c.cfg.Now().UnixMilli()
	for _, id := range sets {
		set := m.Set(id)
		if set == nil {
			return quorate.Errorf(quorate.NotFound, "set %d does not exist", id)
		}
		if end := set.Bounds.Range.End; end > now {
			return quorate.Errorf(quorate.Invalid, "set %d takes samples until %s and cannot be sealed before", id, quorate.FormatTime(end))
		}
	}
	asked, err := propose[RequestSealResult](ctx, c.cfg.Leader, RequestSeal{Sets: rising(sets)})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, asked.Index)
	return err
}

// rising returns numbers in order, each once.
func rising[ID ~uint64](ids []ID) []ID {
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// ReportSeal tells metasvc what a replica of this node made of its set's seal
// (PROTOCOL 14); the report's Replica is filled in. It may be called again, also
// with the file that was not built before. When it returns, the map has the
// verdict if there is one. The error is of kind NotFound for a set or replica
// that is not known, Unavailable for an intent that is not the set's.
func (c *Client) ReportSeal(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, report SealReport) error {
	report.Replica = replica
	reported, err := propose[ReportSealResult](ctx, c.cfg.Leader, ReportSeal{Set: set, Report: report})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, reported.Index)
	return err
}

// ReportDropped tells metasvc that the files of a replica of this node, whose
// set is dropped, are out of the way (PROTOCOL 16). It may be called again.
func (c *Client) ReportDropped(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	reported, err := propose[ReportDroppedResult](ctx, c.cfg.Leader, ReportDropped{Set: set, Replica: replica})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, reported.Index)
	return err
}
