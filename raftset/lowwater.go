package raftset

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate"
)

const (
	lowWaterMagic   = "QRLW"
	lowWaterVersion = 1

	// A busy group's mark is written this often or after this many bytes of
	// log, whichever is first: that bounds what damage to the end of the log
	// can pass for a torn write that was never acknowledged.
	lowWaterEvery = time.Second
	lowWaterBytes = 1 << 20
)

// waterLevel is what the lowwater file says: the log reached index, durably.
// raft-wal takes damage for a torn last write and opens with a shorter log;
// acknowledged entries would be gone without a word. Against the level it shows.
type waterLevel struct {
	index uint64
	// clean tells that the replica was closed at exactly this index; after an
	// unclean stop the log is searched for entries past its end as well.
	clean bool
}

func (w *waterLevel) encode(set quorate.ReplicaSetID, replica quorate.ReplicaID) []byte {
	r := beginRecord(lowWaterMagic, lowWaterVersion)
	r = binary.AppendUvarint(r, uint64(set))
	r = binary.AppendUvarint(r, uint64(replica))
	r = binary.AppendUvarint(r, w.index)
	var clean uint64
	if w.clean {
		clean = 1
	}
	return sealRecord(binary.AppendUvarint(r, clean))
}

// decodeWaterLevel decodes the lowwater file of one replica. Errors wrap
// ErrDamaged or are about a format version.
func decodeWaterLevel(data []byte, set quorate.ReplicaSetID, replica quorate.ReplicaID) (waterLevel, error) {
	c, err := openRecord(data, lowWaterMagic, lowWaterVersion)
	if err != nil {
		return waterLevel{}, err
	}
	if err := checkOwner(c, "low-water mark", set, replica); err != nil {
		return waterLevel{}, err
	}
	w := waterLevel{index: c.Uvarint(), clean: c.Uvarint() == 1}
	return w, c.finish("low-water mark")
}

// lowWater keeps one replica's lowwater file. The log store tells it of every
// durable append; the host's tide writes it in the background.
type lowWater struct {
	path    string
	set     quorate.ReplicaSetID
	replica quorate.ReplicaID
	guard   *guard
	tide    *tide
	publish publisher
	// volatile is set for logs in memory, of which nothing durable is promised.
	volatile bool

	stored  atomic.Uint64
	unsaved atomic.Int64
	queued  atomic.Bool

	mu      sync.Mutex // serialises writes of the file: I/O under it is its job
	retired bool       // the replica is closing: the tide writes no more
}

func readWaterLevel(path string, set quorate.ReplicaSetID, replica quorate.ReplicaID) (waterLevel, error) {
	data, err := readRecord(path)
	if err != nil {
		return waterLevel{}, err
	}
	w, err := decodeWaterLevel(data, set, replica)
	if err != nil {
		return waterLevel{}, fmt.Errorf("file %s: %w", path, err)
	}
	return w, nil
}

// rise notes that the log is durable up to index, after an append of some bytes.
func (l *lowWater) rise(index uint64, bytes int64) {
	if l.volatile {
		return
	}
	l.stored.Store(index)
	urgent := l.unsaved.Add(bytes) >= lowWaterBytes
	if !l.queued.Swap(true) || urgent {
		l.tide.enqueue(l, urgent)
	}
}

// save makes a level durable before it returns: when the replica opens, before
// its log loses a suffix, and when it closes.
func (l *lowWater) save(index uint64, clean bool) error {
	if l.volatile {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored.Store(index)
	return l.saveLocked(waterLevel{index: index, clean: clean})
}

// flush makes the level of the last append durable. A failure stops the replica.
func (l *lowWater) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queued.Store(false)
	l.unsaved.Store(0)
	if l.retired || l.guard.err() != nil {
		return
	}
	if err := l.saveLocked(waterLevel{index: l.stored.Load()}); err != nil {
		l.guard.fail(err)
	}
}

func (l *lowWater) saveLocked(w waterLevel) error {
	if err := l.publish(l.path, w.encode(l.set, l.replica)); err != nil {
		return fmt.Errorf("save the low-water mark: %w", err)
	}
	return nil
}

// tide writes the marks of all groups of a host in one goroutine, so that idle
// groups cost nothing and busy ones no goroutine.
type tide struct {
	wake   chan struct{}
	urgent chan struct{}
	stop   chan struct{}
	done   chan struct{}

	mu    sync.Mutex
	dirty map[*lowWater]struct{}
}

func startTide() *tide {
	t := &tide{
		wake:   make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
		dirty:  make(map[*lowWater]struct{}),
	}
	go t.run()
	return t
}

func (t *tide) enqueue(l *lowWater, urgent bool) {
	t.mu.Lock()
	t.dirty[l] = struct{}{}
	t.mu.Unlock()
	notify(t.wake)
	if urgent {
		notify(t.urgent)
	}
}

// forget drops a closing replica's mark and waits for a write under way.
func (t *tide) forget(l *lowWater) {
	t.mu.Lock()
	delete(t.dirty, l)
	t.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.retired = true
}

func (t *tide) run() {
	defer close(t.done)
	timer := time.NewTimer(lowWaterEvery)
	defer timer.Stop()
	for {
		select {
		case <-t.wake:
		case <-t.stop:
			return
		}
		timer.Reset(lowWaterEvery)
		select {
		case <-timer.C:
		case <-t.urgent:
		case <-t.stop:
			return
		}
		for _, l := range t.take() {
			l.flush()
		}
	}
}

func (t *tide) take() []*lowWater {
	t.mu.Lock()
	defer t.mu.Unlock()
	marks := make([]*lowWater, 0, len(t.dirty))
	for l := range t.dirty {
		marks = append(marks, l)
	}
	clear(t.dirty)
	return marks
}

func (t *tide) close() {
	close(t.stop)
	<-t.done
}

// notify wakes the one receiver of a channel with room for one.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
