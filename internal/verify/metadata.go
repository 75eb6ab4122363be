package verify

import (
	"context"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
)

// records are what the metadata group says of the directory's cluster. They are
// empty when that cannot be told.
type records struct {
	cluster *metasvc.Cluster
	nodes   []quorate.NodeID
	sets    map[quorate.ReplicaSetID]*metasvc.ReplicaSet
}

// readMetadata checks the replica of the metadata group and returns the sets
// that its state has at the end of its log.
func (c *check) readMetadata(ctx context.Context, dir string) (raftset.Report, records, error) {
	var entries []quorate.LogEntry
	report, err := raftset.Verify(ctx, dir, func(e quorate.LogEntry) error {
		entries = append(entries, e)
		return nil
	})
	if err != nil || !report.Formed || len(report.Problems) > 0 {
		return report, records{}, err
	}
	// The log continues the state of the manifest.
	machine := metasvc.NewStateMachine(metasvc.StateMachineConfig{})
	if err := machine.Open(ctx, report.Payload, report.Index); err != nil {
		report.Problems = append(report.Problems, raftset.Finding{File: "manifest", Offset: -1, What: err})
		return report, records{}, nil //nolint:nilerr // damage is a finding
	}
	if _, err := machine.ApplyBatch(entries); err != nil {
		report.Problems = append(report.Problems, raftset.Finding{File: "log", Offset: -1, What: err})
		return report, records{}, nil //nolint:nilerr // damage is a finding
	}
	known, err := recordsOf(ctx, machine)
	return report, known, err
}

// recordsOf reads a state machine. A change is the record as it is now.
func recordsOf(ctx context.Context, machine *metasvc.StateMachine) (records, error) {
	batch, err := machine.Watch(0).Next(ctx)
	if err != nil {
		return records{}, err
	}
	known := records{sets: map[quorate.ReplicaSetID]*metasvc.ReplicaSet{}}
	for _, change := range batch.Changes {
		if change.Removed {
			if change.Kind == metasvc.KindReplicaSet {
				delete(known.sets, quorate.ReplicaSetID(change.ID))
			}
			continue
		}
		switch record := change.Record.(type) {
		case *metasvc.Cluster:
			known.cluster = record
		case *metasvc.Node:
			known.nodes = append(known.nodes, record.ID)
		case *metasvc.ReplicaSet:
			known.sets[record.ID] = record
		}
	}
	return known, nil
}
