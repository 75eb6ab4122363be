package metalink

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// recordTimeout bounds what one node is asked for its record of the cluster.
const recordTimeout = 2 * time.Second

// ClusterRecord returns the record of the cluster as another node has it: the
// newest of the first two that answer. It is for a node that cannot trust its own
// replica to hear of its removal.
func (l *Link) ClusterRecord(ctx context.Context) (newest *metasvc.Cluster, err error) {
	nodes := l.candidates()
	if len(nodes) == 0 {
		nodes = l.lookAround(ctx)
	}
	answers := 0
	for _, node := range nodes {
		record, failed := l.recordOf(ctx, node)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		if newest == nil || record.ModIndex > newest.ModIndex {
			newest = record
		}
		if answers++; answers == 2 {
			break
		}
	}
	if newest == nil {
		return nil, quorate.Errorf(quorate.Unavailable, "no other node has a record of the cluster: %w", err)
	}
	return newest, nil
}

// recordOf reads a node's change log from the beginning up to the record.
func (l *Link) recordOf(ctx context.Context, node quorate.NodeID) (*metasvc.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	recv, err := l.cfg.Port.Stream(ctx, node, methodWatch, encodeWatch(0))
	if err != nil {
		return nil, err
	}
	for {
		frame, err := recv()
		if err != nil {
			return nil, err
		}
		batch, err := metasvc.DecodeBatch(frame)
		if err != nil {
			return nil, err
		}
		for _, change := range batch.Changes {
			if record, ok := change.Record.(*metasvc.Cluster); ok {
				return record, nil
			}
		}
	}
}
