package raftset

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// maxPayloadBytes bounds the payload a snapshot may write into a manifest: the
// payload names files, it does not hold them.
const maxPayloadBytes = 64 << 20

// manifestStore is the raft.SnapshotStore of one replica. Its only record is
// the manifest (PROTOCOL 21).
type manifestStore struct {
	path    string
	guard   *guard
	dog     *watchdog
	publish publisher

	mu  sync.Mutex // held over a publication, so that compare and swap are one
	now *manifest
}

func openManifestStore(path string, publish publisher) (*manifestStore, error) {
	data, err := readRecord(path)
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", path, err)
	}
	return &manifestStore{path: path, publish: publish, now: m}, nil
}

// current returns the manifest, which is never changed in place.
func (s *manifestStore) current() *manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

// List implements raft.SnapshotStore.
func (s *manifestStore) List() ([]*raft.SnapshotMeta, error) {
	return []*raft.SnapshotMeta{s.current().meta()}, nil
}

// Open implements raft.SnapshotStore. What it reads is the payload alone; the
// rest of the manifest travels in the snapshot's meta.
func (s *manifestStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m := s.current()
	if id != m.id() {
		return nil, nil, fmt.Errorf("snapshot %s: %w by %s", id, ErrSuperseded, m.id())
	}
	return m.meta(), io.NopCloser(bytes.NewReader(m.payload)), nil
}

// Create implements raft.SnapshotStore. The new manifest starts from the one
// that is current now.
func (s *manifestStore) Create(_ raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if err := s.guard.err(); err != nil {
		return nil, err
	}
	servers, err := fromConfiguration(configuration)
	if err != nil {
		return nil, err
	}
	base := s.current()
	if index < base.index {
		return nil, fmt.Errorf("snapshot at index %d: %w by one at %d", index, ErrSuperseded, base.index)
	}
	next := *base
	next.index, next.term = index, term
	next.servers, next.configurationIndex = servers, configurationIndex
	next.payload = nil
	return &manifestSink{store: s, base: base, next: &next}, nil
}

// swap publishes next in the place of base.
func (s *manifestStore) swap(base, next *manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != base || next.index < base.index {
		return fmt.Errorf("manifest at index %d: %w by one at %d", next.index, ErrSuperseded, s.now.index)
	}
	if err := s.guard.err(); err != nil {
		return err
	}
	defer s.dog.watch()()
	if err := s.publish(s.path, next.encode()); err != nil {
		// Which of the two manifests a crash would show is unknown now.
		err = fmt.Errorf("publish the manifest: %w", err)
		s.guard.fail(err)
		return err
	}
	s.now = next
	return nil
}

// manifestSink gathers a snapshot's payload. It is used by one goroutine.
type manifestSink struct {
	store *manifestStore
	base  *manifest
	next  *manifest
	state sinkState
}

type sinkState uint8

const (
	sinkOpen sinkState = iota
	sinkPublished
	sinkCancelled
)

var errSinkClosed = errors.New("the snapshot is finished already")

// ID implements raft.SnapshotSink.
func (k *manifestSink) ID() string { return k.next.id() }

// Write adds to the payload.
func (k *manifestSink) Write(p []byte) (int, error) {
	if k.state != sinkOpen {
		return 0, errSinkClosed
	}
	if len(k.next.payload)+len(p) > maxPayloadBytes {
		return 0, fmt.Errorf("manifest payload is over the limit of %d bytes", maxPayloadBytes)
	}
	k.next.payload = append(k.next.payload, p...)
	return len(p), nil
}

// Close publishes the manifest. The library closes a sink that Persist has
// closed already, which changes nothing.
func (k *manifestSink) Close() error {
	switch k.state {
	case sinkPublished:
		return nil
	case sinkCancelled:
		return errSinkClosed
	case sinkOpen:
	}
	k.state = sinkCancelled
	if err := k.store.swap(k.base, k.next); err != nil {
		return err
	}
	k.state = sinkPublished
	return nil
}

// Cancel drops the snapshot; it does nothing to a published one.
func (k *manifestSink) Cancel() error {
	if k.state == sinkOpen {
		k.state = sinkCancelled
	}
	return nil
}

func (m *manifest) id() string { return fmt.Sprintf("%d-%d", m.term, m.index) }

func (m *manifest) meta() *raft.SnapshotMeta {
	return &raft.SnapshotMeta{
		Version:            raft.SnapshotVersionMax,
		ID:                 m.id(),
		Index:              m.index,
		Term:               m.term,
		Configuration:      toConfiguration(m.servers),
		ConfigurationIndex: m.configurationIndex,
		Size:               int64(len(m.payload)),
	}
}
