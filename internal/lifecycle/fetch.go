package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

const (
	// stallAfter is how long a node may send nothing of a file before the next
	// is asked. It must leave room for the sender's throttle.
	stallAfter = 30 * time.Second
	// seedTimeout bounds a question to one node.
	seedTimeout = 10 * time.Second
)

// Between the steps of a fetch.
const (
	momentPiece    moment = "a piece of a file is fetched"
	momentReceived moment = "a file is fetched and not adopted"
	momentStaged   moment = "a manifest's files are here and it is not installed"
)

var (
	errStalled   = quorate.Errorf(quorate.Unavailable, "it has sent nothing for %v", stallAfter)
	errNoSources = quorate.Errorf(quorate.Unavailable, "no other node has a replica")
)

// fetchFile gets one file of a set from one of several nodes, which are asked in
// turn. What has come when one fails is kept, and the next one goes on behind it.
func (m *Manager) fetchFile(ctx context.Context, cfg tsdbshard.Config, f tsdbshard.FileInfo, sources []quorate.NodeID) error {
	select {
	case m.fetchSlots <- struct{}{}:
		defer func() { <-m.fetchSlots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := m.space.admits(int64(f.Bytes)); err != nil {
		return fmt.Errorf("fetch %s of set %v: %w", f.Name, cfg.Set, diskError{err})
	}
	errs := []error{errNoSources}
	for _, source := range sources {
		resumed, err := m.fetchFrom(ctx, cfg, f, source)
		if errors.Is(err, tsdbshard.ErrDamaged) && resumed {
			// The damage may have been in what was there before.
			m.noteFetch(cfg.Set, f, source, err)
			_, err = m.fetchFrom(ctx, cfg, f, source)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || isDisk(err) {
			return err
		}
		m.noteFetch(cfg.Set, f, source, err)
		errs = append(errs, fmt.Errorf("node %v: %w", source, err))
	}
	if len(errs) > 1 {
		errs = errs[1:]
	}
	return fmt.Errorf("fetch %s of set %v: %w", f.Name, cfg.Set, errors.Join(errs...))
}

// noteFetch counts and tells that a node did not give a file. A damaged one is
// told louder: that node has to be looked at.
func (m *Manager) noteFetch(set setID, f tsdbshard.FileInfo, source quorate.NodeID, err error) {
	reason, tell := "unavailable", m.logger.Info
	if errors.Is(err, tsdbshard.ErrDamaged) {
		reason, tell = "damaged", m.logger.Error
	}
	m.metrics.fetchFailures.WithLabelValues(reason).Inc()
	tell("file was not fetched", "set", set, "file", f.Name, "from", source, "reason", reason, "err", err)
}

// diskError is an error of this node's own disk, which no other source mends.
type diskError struct{ error }

func (e diskError) Unwrap() error { return e.error }

func isDisk(err error) bool {
	var own diskError
	return errors.As(err, &own)
}

// fetchFrom gets what is missing of a file from one node, checks all of it, and
// makes it durable. It tells whether part of it was here before.
func (m *Manager) fetchFrom(ctx context.Context, cfg tsdbshard.Config, f tsdbshard.FileInfo, source quorate.NodeID) (resumed bool, err error) {
	start := time.Now()
	r, err := tsdbshard.ReceiveFile(cfg, f)
	if err != nil {
		return false, diskError{err}
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	from := r.Offset()
	if from < f.Bytes || f.Bytes == 0 {
		if err := m.receive(ctx, r, f, cfg.Set, source); err != nil {
			return from > 0, err
		}
	}
	if err := r.Finish(ctx); err != nil {
		return from > 0, err
	}
	m.metrics.fetched.Inc()
	m.logger.Info("file fetched", "set", cfg.Set, "file", f.Name, "from", source, "bytes", f.Bytes, "resumed_at", from, "took", time.Since(start))
	return from > 0, m.cfg.moment(momentReceived)
}

// receive writes what a node sends of a file behind what is there.
func (m *Manager) receive(ctx context.Context, r *tsdbshard.FileReceiver, f tsdbshard.FileInfo, set setID, source quorate.NodeID) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stallAfter, func() { cancel(errStalled) })
	defer stall.Stop()
	err := m.receivePieces(ctx, r, f, set, source, func() { stall.Reset(stallAfter) })
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func (m *Manager) receivePieces(ctx context.Context, r *tsdbshard.FileReceiver, f tsdbshard.FileInfo, set setID, source quorate.NodeID, alive func()) error {
	req := fileRequest{Set: set, Name: f.Name, Offset: r.Offset()}
	recv, err := m.cfg.Peers.Stream(ctx, source, methodFile, req.encode())
	if err != nil {
		return err
	}
	first, err := recv()
	if err != nil {
		return unexpected(err)
	}
	head, err := decodeFileHead(first)
	if err != nil {
		return err
	}
	if head.Bytes != f.Bytes {
		return fmt.Errorf("%w: its file has %d bytes, not %d", tsdbshard.ErrDamaged, head.Bytes, f.Bytes)
	}
	for r.Offset() < f.Bytes {
		piece, err := recv()
		if err != nil {
			return unexpected(err)
		}
		if len(piece) > pieceBytes {
			return fmt.Errorf("%w: a piece of %d bytes", errMessage, len(piece))
		}
		alive()
		if err := m.fetching.WaitN(ctx, len(piece)); err != nil {
			return err
		}
		switch _, err := r.Write(piece); {
		case errors.Is(err, tsdbshard.ErrDamaged):
			return err
		case err != nil:
			return diskError{err}
		}
		m.metrics.fetchedBytes.Add(float64(len(piece)))
		if err := m.cfg.moment(momentPiece); err != nil {
			return err
		}
	}
	return nil
}

// unexpected makes the end of a stream that comes too early an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stage makes ready the files that a manifest from another replica names: those
// that are not here are fetched, beside whatever the shard has open.
func (m *Manager) stage(ctx context.Context, r *replica, payload []byte, sources []quorate.NodeID) error {
	cfg := m.shardConfig(r)
	missing, err := tsdbshard.Stage(cfg, payload)
	if err != nil {
		return err
	}
	for _, f := range missing {
		if err := m.fetchFile(ctx, cfg, f, sources); err != nil {
			return err
		}
	}
	return nil
}

// FetchManifest fetches the files that a manifest names which node from is about
// to install here, so that the installation itself takes no time. It is
// raftset.HostConfig.Fetch.
func (m *Manager) FetchManifest(ctx context.Context, set quorate.ReplicaSetID, id quorate.ReplicaID, from quorate.NodeID, payload []byte) error {
	m.mu.Lock()
	r := m.replicas[set]
	m.mu.Unlock()
	if r == nil || r.id != id || m.cfg.Peers == nil {
		return quorate.Errorf(quorate.Unavailable, "set %v: replica %v is not open here", set, id)
	}
	select {
	case r.staging <- struct{}{}:
		defer func() { <-r.staging }()
	case <-ctx.Done():
		return ctx.Err()
	}
	sources := []quorate.NodeID{from}
	if record := m.cfg.Client.Map().Set(set); record != nil {
		sources = append(sources, m.others(record, from)...)
	}
	if err := m.stage(ctx, r, payload, sources); err != nil {
		return fmt.Errorf("fetch a manifest of set %v: %w", set, err)
	}
	return m.cfg.moment(momentStaged)
}

// others lists the nodes of a set's members but for this one and those given:
// whom to ask for its files, those that have built the canonical one first.
func (m *Manager) others(set *metasvc.ReplicaSet, but ...quorate.NodeID) (nodes []quorate.NodeID) {
	var rest []quorate.NodeID
members:
	for _, member := range set.Members {
		for _, n := range append(but, m.cfg.Node) {
			if member.Node == n {
				continue members
			}
		}
		if report := reportOf(set, member.Replica); report != nil && report.File != nil {
			nodes = append(nodes, member.Node)
		} else {
			rest = append(rest, member.Node)
		}
	}
	return append(nodes, rest...)
}

// hasOthers tells whether another node may have what a replica here lacks.
func (m *Manager) hasOthers(set *metasvc.ReplicaSet) bool {
	return m.cfg.Peers != nil && len(m.others(set)) > 0
}

// offer is a seed that a member gives: its manifest for a newcomer.
type offer struct {
	bytes []byte
	info  raftset.SeedInfo
	from  quorate.NodeID // which has the files that it names
}

// askSeeds gets the seeds of a set's members, the newest first; there is at least
// one.
func (m *Manager) askSeeds(ctx context.Context, set *metasvc.ReplicaSet) ([]offer, error) {
	var seeds []offer
	errs := []error{errNoSources}
	for _, node := range m.others(set) {
		given, info, err := m.askSeedOf(ctx, set.ID, node)
		if err != nil {
			errs = append(errs, fmt.Errorf("node %v: %w", node, err))
			continue
		}
		seeds = append(seeds, offer{bytes: given, info: info, from: node})
	}
	if len(seeds) == 0 {
		return nil, fmt.Errorf("get a seed of set %v: %w", set.ID, errors.Join(errs...))
	}
	slices.SortStableFunc(seeds, func(a, b offer) int { return cmp.Compare(b.info.Index, a.info.Index) })
	return seeds, nil
}

func (m *Manager) askSeedOf(ctx context.Context, set setID, node quorate.NodeID) (seed []byte, info raftset.SeedInfo, err error) {
	ctx, cancel := context.WithTimeout(ctx, seedTimeout)
	defer cancel()
	b, err := m.cfg.Peers.Call(ctx, node, methodSeed, replicaRequest{Set: set}.encode())
	if err != nil {
		return nil, info, err
	}
	answer, err := decodeSeedAnswer(b)
	if err != nil {
		return nil, info, err
	}
	if info, err = raftset.ParseSeed(answer.Seed); err != nil {
		return nil, info, err
	}
	if info.Set != set {
		return nil, info, fmt.Errorf("%w: it is one of set %v", errMessage, info.Set)
	}
	return answer.Seed, info, nil
}
