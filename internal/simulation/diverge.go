package simulation

import (
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	// divergeEvery is at which entries the mutant that diverges does so.
	divergeEvery = 50
	otherTenant  = testTenant + 1
)

// diverging is a state machine that now and then applies what is in no log: a
// sample of a tenant that nobody reads.
type diverging struct {
	*tsdbshard.Shard
	set     *replicaSet
	decoder wire.Decoder
	encoder wire.Encoder
}

// ApplyBatch implements raftset.StateMachine.
func (d *diverging) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	entries = slices.Clone(entries)
	added := make([]bool, len(entries))
	for i := range entries {
		e, err := d.decoder.Decode(entries[i].Data)
		if err != nil {
			return nil, err
		}
		if e.Kind != wire.KindWrite || entries[i].Index%divergeEvery != 0 {
			continue
		}
		b := &wire.Batch{
			Tenant: otherTenant, Version: d.set.bounds.Version, Definitions: [][]byte{labelsOf(0)},
			Series: []wire.RowSeries{wire.ByDefinition(0)}, Timestamps: []int64{d.set.bounds.Range.Start + int64(entries[i].Index)}, Values: []float64{1},
		}
		entries[i].Data, added[i] = d.encoder.Append(nil, wire.KindWrite, append(e.Commands, b.Append(nil))...), true
	}
	results, err := d.Shard.ApplyBatch(entries)
	for i, of := range results {
		if added[i] && len(of) > 0 {
			results[i] = of[:len(of)-1]
		}
	}
	return results, err
}
