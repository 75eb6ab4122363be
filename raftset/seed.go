package raftset

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/durable"
)

const (
	seedMagic   = "QRSD"
	seedVersion = 1
)

// SeedInfo is what a newcomer needs to know of a seed.
type SeedInfo struct {
	Set quorate.ReplicaSetID
	// Index and Term are where in the log the seed stands.
	Index, Term uint64
	// Payload is the state machine's description of its state there; the files
	// that it names have to be here before the replica opens.
	Payload []byte
}

// Seed returns the current manifest in the form in which a new member starts
// from it, with Host.Join. Any replica can give one.
func (g *Group) Seed() []byte {
	m := g.manifests.current()
	b := beginRecord(seedMagic, seedVersion)
	b = binary.AppendUvarint(b, uint64(m.set))
	b = append(b, m.genesis[:]...)
	b = binary.AppendUvarint(b, m.index)
	b = binary.AppendUvarint(b, m.term)
	b = binary.AppendUvarint(b, m.configurationIndex)
	b = appendServers(b, m.servers)
	b = cursor.AppendBytes(b, m.payload)
	return sealRecord(b)
}

// ParseSeed tells what a seed holds. Errors wrap ErrDamaged or are about a
// format version.
func ParseSeed(seed []byte) (SeedInfo, error) {
	m, err := decodeSeed(seed)
	if err != nil {
		return SeedInfo{}, fmt.Errorf("seed: %w", err)
	}
	return SeedInfo{Set: m.set, Index: m.index, Term: m.term, Payload: m.payload}, nil
}

// decodeSeed returns the seed as a manifest without a replica.
func decodeSeed(seed []byte) (*manifest, error) {
	c, err := openRecord(seed, seedMagic, seedVersion)
	if err != nil {
		return nil, err
	}
	m := &manifest{set: quorate.ReplicaSetID(c.Uvarint())}
	copy(m.genesis[:], c.Take(sha256.Size))
	m.index = c.Uvarint()
	m.term = c.Uvarint()
	m.configurationIndex = c.Uvarint()
	m.servers = readServers(c)
	m.payload = c.Bytes()
	if err := c.finish("seed"); err != nil {
		return nil, err
	}
	return m, m.validate()
}

var errSeedOfMember = errors.New("the replica is a member in the seed's own configuration")

// Join makes the directory of a new member, which stands where the seed stands
// and is in no configuration yet; Open then starts it, and the set's leader adds
// it as a learner. The files that the seed's payload names must be here first:
// nothing fetches them later.
//
// It is idempotent: a replica that has started is left as it is, one that has
// not takes the newer of the seeds. Only under a ReplicaID that was never used
// may a replica join (PROTOCOL 2). Errors wrap ErrFormedOtherwise or
// ErrQuarantined when the directory holds something else.
func (h *Host) Join(ctx context.Context, set quorate.ReplicaSetID, replica quorate.ReplicaID, seed []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.join(set, replica, seed); err != nil {
		return fmt.Errorf("join set %d as replica %d: %w", set, replica, err)
	}
	return nil
}

func (h *Host) join(set quorate.ReplicaSetID, replica quorate.ReplicaID, seed []byte) error {
	first, err := decodeSeed(seed)
	if err != nil {
		return err
	}
	if first.set != set {
		return damaged("the seed is one of set %d", first.set)
	}
	if _, ok := find(first.servers, replica); ok {
		return errSeedOfMember
	}
	first.replica = replica
	if g, ok := h.Group(set); ok && g.Replica() == replica {
		return nil
	}
	if err := h.reserve(set); err != nil {
		return err
	}
	defer h.unreserve(set)
	dir := replicaDir(h.cfg.Dir, set, replica)
	if err := checkQuarantine(dir); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.plant(dir, first)
	}
	if err != nil {
		return err
	}
	if err := sameGenesis(data, first); err != nil {
		return err
	}
	return h.replant(dir, data, first)
}

// plant makes the directory beside its place and renames it there, so that a
// crash leaves all of it or nothing.
func (h *Host) plant(dir string, first *manifest) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w: it has no manifest", ErrFormedOtherwise), err)
	}
	nursery := dir + joiningSuffix
	// What an earlier Join left here never was a replica.
	if err := os.RemoveAll(nursery); err != nil {
		return err
	}
	if err := durable.MkdirAll(filepath.Join(nursery, logDir)); err != nil {
		return err
	}
	if err := h.settleAt(nursery, first); err != nil {
		return err
	}
	return durable.Rename(nursery, dir)
}

// replant gives a replica that joined and never started a newer seed.
func (h *Host) replant(dir string, data []byte, first *manifest) error {
	old, err := decodeManifest(data)
	if err != nil {
		return err
	}
	if old.index >= first.index {
		return nil
	}
	started, err := hasStarted(dir, old)
	if err != nil || started {
		return err
	}
	return h.settleAt(dir, first)
}

// settleAt publishes a newcomer's files. The mark comes last and the vote
// first: the mark must never be ahead of the manifest, nor the manifest's term
// of the vote's, whatever of the three a crash leaves undone.
func (h *Host) settleAt(dir string, first *manifest) error {
	v := ballot{term: first.term}
	if err := h.cfg.publish(filepath.Join(dir, voteFile), v.encode(first.set, first.replica)); err != nil {
		return err
	}
	if err := h.cfg.publish(filepath.Join(dir, manifestFile), first.encode()); err != nil {
		return err
	}
	w := waterLevel{index: first.index, clean: true}
	return h.cfg.publish(filepath.Join(dir, lowWaterFile), w.encode(first.set, first.replica))
}

// hasStarted tells whether a replica was ever opened: its log has files, or it
// knows another term than it was born with.
func hasStarted(dir string, m *manifest) (bool, error) {
	inside, err := os.ReadDir(filepath.Join(dir, logDir))
	if err != nil {
		return false, err
	}
	data, err := os.ReadFile(filepath.Join(dir, voteFile))
	if err != nil {
		return false, err
	}
	b, err := decodeBallot(data, m.set, m.replica)
	if err != nil {
		return false, err
	}
	return len(inside) != 0 || b.candidate != nil || b.term != m.term, nil
}
