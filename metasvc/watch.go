package metasvc

import (
	"context"
)

// Record is a record of any table: *Cluster, *Node, *Tenant, *Policy,
// *BucketRecord, *ReplicaSet or *DeletionRecord. It is immutable.
type Record interface{ record() }

func (*Cluster) record()        {}
func (*Node) record()           {}
func (*Tenant) record()         {}
func (*Policy) record()         {}
func (*BucketRecord) record()   {}
func (*ReplicaSet) record()     {}
func (*DeletionRecord) record() {}

// Change is what one entry of the metadata log did to one record. It has no
// pointers into the state machine but the immutable record, so that it travels
// to other nodes as it stands.
type Change struct {
	// Index is that of the entry that changed the record last.
	Index uint64
	Kind  RecordKind
	// ID is the record's number within its kind; 0 for the cluster.
	ID uint64
	// Record is the record as it is now, nil when it was removed.
	Record Record
	// Removed marks a record that is gone. Name is then the tenant's name.
	Removed bool
	Name    string
}

// Batch is what changed between two indexes of the metadata log. The changes
// of one entry are never split between two batches.
type Batch struct {
	// To is the index that whoever has taken the batch has reached.
	To uint64
	// Changes are by rising index. A record that changed more than once may
	// stand once only, as it is at the end.
	Changes []Change
	// Whole tells that the changes are all there is: whatever they do not name
	// does not exist. It happens only to a watcher that lags by more removals
	// than are remembered.
	Whole bool
}

// changeLog is a bounded memory of the last changes.
type changeLog struct {
	limit   int // of changes
	changes []Change
	// from is the index after which the log is complete.
	from uint64
}

// add appends the changes of one entry and forgets the oldest whole entries
// that are over the limit.
func (l *changeLog) add(changes []Change) {
	l.changes = append(l.changes, changes...)
	over := len(l.changes) - l.limit
	if over <= 0 {
		return
	}
	for over < len(l.changes) && l.changes[over].Index == l.changes[over-1].Index {
		over++
	}
	l.from = l.changes[over-1].Index
	// The slice grows by append and is cut in front, so what is forgotten is
	// freed when append moves it; clear lets go of the records at once.
	clear(l.changes[:over])
	l.changes = l.changes[over:]
}

// after returns the changes after index from, and whether the log still has
// them all.
func (l *changeLog) after(from uint64) ([]Change, bool) {
	if from < l.from {
		return nil, false
	}
	i := len(l.changes)
	for i > 0 && l.changes[i-1].Index > from {
		i--
	}
	return append([]Change(nil), l.changes[i:]...), true
}

// Watch follows a state machine from an index on. It is a position, not a
// subscription: it holds nothing of the state machine, needs no closing, and
// another one made at the same index goes on where it stood. It is not safe
// for concurrent use.
type Watch struct {
	machine *StateMachine
	at      uint64
}

// Watch follows the changes after index from; 0 is from the beginning.
func (m *StateMachine) Watch(from uint64) *Watch { return &Watch{machine: m, at: from} }

// Next waits until the state machine has applied more than the watch has seen
// and returns what changed, which may be nothing. A watch that fell behind the
// change log gets the records that changed since, from the state itself, and
// no others. The error is ctx's, or ErrClosed.
func (w *Watch) Next(ctx context.Context) (Batch, error) {
	for {
		batch, more, err := w.machine.batchAfter(w.at)
		if err != nil {
			return Batch{}, err
		}
		if more == nil {
			w.at = batch.To
			return batch, nil
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-more:
		}
	}
}

// batchAfter returns the changes after index at, or a channel that is closed
// when there may be some.
func (m *StateMachine) batchAfter(at uint64) (Batch, <-chan struct{}, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	switch {
	case m.closed:
		return Batch{}, nil, ErrClosed
	case m.state.index <= at:
		return Batch{}, m.more, nil
	}
	batch := Batch{To: m.state.index}
	var complete bool
	if batch.Changes, complete = m.log.after(at); complete {
		return batch, nil, nil
	}
	batch.Whole = at < m.state.forgotten
	if batch.Whole {
		at = 0
	}
	batch.Changes = m.state.changesSince(at)
	return batch, nil, nil
}
