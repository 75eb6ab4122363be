package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/time/rate"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// pieceBytes is how much of a file one message has.
const pieceBytes = 256 << 10

// newThrottle makes a limiter of bytes, of which a piece is the least that it
// can let pass at once.
func newThrottle(bytesPerSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesPerSecond), max(pieceBytes, int(min(bytesPerSecond/10, 64<<20))))
}

// present is what this node has of a set at one moment.
type present struct {
	replica quorate.ReplicaID
	group   *raftset.Group // nil unless the replica runs on its log
	damaged bool
}

func (m *Manager) holds(set setID) (h present, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.replicas[set]
	if r == nil {
		return h, false
	}
	return present{replica: r.id, group: r.group, damaged: r.damage != nil}, true
}

func errNotHere(set setID) error {
	return quorate.Errorf(quorate.NotFound, "set %v has no open replica here", set)
}

// handleSeed answers with the seed of a replica that runs on its log.
func (m *Manager) handleSeed(_ context.Context, _ quorate.NodeID, req []byte) ([]byte, error) {
	r, err := decodeReplicaRequest(req)
	if err != nil {
		return nil, err
	}
	h, ok := m.holds(r.Set)
	if !ok || h.group == nil || hasFailed(h.group) {
		return nil, errNotHere(r.Set)
	}
	return seedAnswer{Seed: h.group.Seed()}.encode(), nil
}

// handleReady answers whether a replica runs on its log here, so that its set's
// leader may make it a member, or another one be quarantined. Of two replicas that
// are damaged both must not take the other for one that stays: the one of the
// smaller number goes first.
func (m *Manager) handleReady(_ context.Context, from quorate.NodeID, req []byte) ([]byte, error) {
	r, err := decodeReplicaRequest(req)
	if err != nil {
		return nil, err
	}
	h, ok := m.holds(r.Set)
	open := ok && h.replica == r.Replica && h.group != nil && !hasFailed(h.group)
	if open && h.damaged {
		asks := replicaOn(h.group.Configuration().Voters, from)
		open = asks != 0 && asks < h.replica
	}
	return readyAnswer{Open: open}.encode(), nil
}

// handleFile sends a file of a set. An open descriptor is all the reference that
// it needs: whatever removes the file meanwhile unlinks it, and its bytes stay
// until they are sent (PROTOCOL 23).
func (m *Manager) handleFile(ctx context.Context, _ quorate.NodeID, req []byte, send func([]byte) error) error {
	r, err := decodeFileRequest(req)
	if err != nil {
		return err
	}
	path, err := m.servedPath(r.Set, r.Name)
	if err != nil {
		return err
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return quorate.Errorf(quorate.NotFound, "set %v has no file %q here", r.Set, r.Name)
	}
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // only read from
	info, err := file.Stat()
	if err != nil {
		return err
	}
	size := uint64(info.Size())
	if r.Offset > size {
		return fmt.Errorf("%w: offset %d in a file of %d bytes", errMessage, r.Offset, size)
	}
	if err := send(fileHead{Bytes: size}.encode()); err != nil {
		return err
	}
	return m.sendPieces(ctx, io.NewSectionReader(file, int64(r.Offset), int64(size-r.Offset)), send)
}

func (m *Manager) sendPieces(ctx context.Context, from io.Reader, send func([]byte) error) error {
	piece := make([]byte, pieceBytes)
	for {
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			if err := m.sending.WaitN(ctx, n); err != nil {
				return err
			}
			if err := send(piece[:n]); err != nil {
				return err
			}
			m.metrics.sentBytes.Add(float64(n))
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// servedPath returns where a file of a set lies that others may have: one that
// the replica's manifest names now, or the canonical file. The name is compared
// with those and is no part of a path before.
func (m *Manager) servedPath(set setID, name string) (string, error) {
	h, ok := m.holds(set)
	if !ok {
		return "", errNotHere(set)
	}
	dir := setDir(m.cfg.DataDir, set, h.replica)
	if record := m.cfg.Client.Map().Set(set); record != nil && record.Sealed != nil {
		if own := tsdbshard.SealedFileName(record.Sealed.File); name == own {
			return filepath.Join(dir, own), nil
		}
	}
	if h.group != nil {
		seed, err := raftset.ParseSeed(h.group.Seed())
		if err != nil {
			return "", err
		}
		files, err := tsdbshard.FilesOf(seed.Payload)
		if err != nil {
			return "", err
		}
		for _, f := range files {
			if f.Name == name {
				return filepath.Join(dir, f.Name), nil
			}
		}
	}
	return "", quorate.Errorf(quorate.NotFound, "set %v has no file %q here", set, name)
}
