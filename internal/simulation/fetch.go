package simulation

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	// pieceBytes are fetched at once, in up to pieceTime.
	pieceBytes = 4 << 10
	pieceTime  = 20 * time.Millisecond
)

// fetch is raftset.HostConfig.Fetch.
func (p *process) fetch(ctx context.Context, set quorate.ReplicaSetID, _ quorate.ReplicaID, from quorate.NodeID, payload []byte) error {
	err := p.fetchFiles(ctx, set, from, payload)
	if p.dead() {
		return err
	}
	if err != nil {
		p.node.sim.trace.add("%s: fetching a manifest's files from %s: %v", p.node, from.Name, err)
		p.node.sim.count("fetches failed", 1)
		return err
	}
	p.node.sim.count("manifests fetched", 1)
	return nil
}

// fetchFiles copies what is missing of the files that a manifest names from
// another node's directory, as long as that node runs and is reached.
func (p *process) fetchFiles(ctx context.Context, set quorate.ReplicaSetID, from quorate.NodeID, payload []byte) error {
	missing, err := tsdbshard.Stage(p.shardConfig(set), payload)
	if err != nil {
		return err
	}
	for _, f := range missing {
		if err := p.fetchFile(ctx, set, from, f); err != nil {
			return err
		}
	}
	return nil
}

func (p *process) fetchFile(ctx context.Context, set quorate.ReplicaSetID, from quorate.NodeID, want tsdbshard.FileInfo) (err error) {
	s := p.node.sim
	source := s.processOf(from)
	if source == nil {
		return quorate.Errorf(quorate.Unavailable, "%s is down", from.Name)
	}
	file, err := os.Open(filepath.Join(source.shardDir(set), want.Name))
	if err != nil {
		return err
	}
	r, err := tsdbshard.ReceiveFile(p.shardConfig(set), want)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	defer func() { err = errors.Join(err, file.Close(), r.Close()) }()
	piece := make([]byte, pieceBytes)
	for r.Offset() < want.Bytes {
		if !pause(ctx, s.network.chance.between(0, pieceTime)) {
			return ctx.Err()
		}
		if source.dead() || !s.network.reaches(from, p.node.id) {
			return quorate.Errorf(quorate.Unavailable, "%s is not reached", from.Name)
		}
		n, err := file.ReadAt(piece[:min(pieceBytes, want.Bytes-r.Offset())], int64(r.Offset()))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := r.Write(piece[:n]); err != nil {
			return err
		}
	}
	return r.Finish(ctx)
}
