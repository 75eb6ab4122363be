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

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/durable"
)

// The genesis of every set stands at this index and term, of which no leader
// ever writes: the first term won by an election is genesisTerm + 1.
const (
	genesisIndex = 1
	genesisTerm  = 1
)

// Genesis is how a replica is born: the synthetic snapshot at index 1, term 1
// that is identical on all members of the set (PROTOCOL 2).
type Genesis struct {
	Set     quorate.ReplicaSetID
	Replica quorate.ReplicaID
	// Voters are the set's members, Replica among them.
	Voters []Member
	// Payload describes the state machine's first state.
	Payload []byte
}

func (gen *Genesis) validate() error {
	here := false
	for i, v := range gen.Voters {
		if v.Replica == 0 {
			return fmt.Errorf("voter %d of set %d has no ReplicaID", i, gen.Set)
		}
		for _, other := range gen.Voters[:i] {
			if other.Replica == v.Replica || other.Node == v.Node {
				return fmt.Errorf("set %d names voter %s beside %s", gen.Set, v, other)
			}
		}
		here = here || v.Replica == gen.Replica
	}
	if !here {
		return fmt.Errorf("replica %d is no voter of set %d", gen.Replica, gen.Set)
	}
	return nil
}

func (gen *Genesis) manifest() *manifest {
	servers := make([]server, len(gen.Voters))
	for i, v := range gen.Voters {
		servers[i] = server{Member: v, suffrage: raft.Voter}
	}
	b := binary.AppendUvarint(nil, uint64(gen.Set))
	b = appendServers(b, servers)
	b = cursor.AppendBytes(b, gen.Payload)
	return &manifest{
		set: gen.Set, replica: gen.Replica, genesis: sha256.Sum256(b),
		index: genesisIndex, term: genesisTerm, configurationIndex: genesisIndex,
		servers: servers, payload: gen.Payload,
	}
}

// Form persists the genesis of a replica, so that Open can start it. It is
// idempotent for the same genesis, also after the replica has run, and after a
// crash in an earlier Form. It refuses a directory that holds anything else
// with ErrFormedOtherwise or ErrQuarantined. Only a set that the metadata
// service has recorded as forming may be formed: that is what keeps a replica
// whose directory was lost from being born a second time.
func (h *Host) Form(ctx context.Context, gen Genesis) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := gen.validate(); err != nil {
		return fmt.Errorf("form: %w", err)
	}
	if err := h.form(gen.manifest()); err != nil {
		return fmt.Errorf("form set %d, replica %d: %w", gen.Set, gen.Replica, err)
	}
	return nil
}

func (h *Host) form(first *manifest) error {
	dir := replicaDir(h.cfg.Dir, first.set, first.replica)
	if err := checkQuarantine(dir); err != nil {
		return err
	}
	switch data, err := os.ReadFile(filepath.Join(dir, manifestFile)); {
	case err == nil:
		return sameGenesis(data, first)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := durable.MkdirAll(filepath.Join(dir, logDir)); err != nil {
		return err
	}
	if err := durable.RemoveTemporary(dir); err != nil {
		return err
	}
	if err := checkUnborn(dir, first.set, first.replica); err != nil {
		return err
	}
	// The manifest comes last: it is the replica's birth certificate, and Open
	// takes a directory that has one and lacks another file for damaged.
	v := ballot{term: genesisTerm}
	if err := h.cfg.publish(filepath.Join(dir, voteFile), v.encode(first.set, first.replica)); err != nil {
		return err
	}
	w := waterLevel{index: genesisIndex, clean: true}
	if err := h.cfg.publish(filepath.Join(dir, lowWaterFile), w.encode(first.set, first.replica)); err != nil {
		return err
	}
	return h.cfg.publish(filepath.Join(dir, manifestFile), first.encode())
}

func sameGenesis(data []byte, first *manifest) error {
	m, err := decodeManifest(data)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormedOtherwise, err)
	}
	if m.set != first.set || m.replica != first.replica || m.genesis != first.genesis {
		return fmt.Errorf("%w: it was formed as set %d, replica %d from genesis %x", ErrFormedOtherwise, m.set, m.replica, m.genesis[:8])
	}
	return nil
}

// checkUnborn lets only the remains of an interrupted Form pass: a replica that
// has voted or stored an entry had a manifest, and without it is damaged.
func checkUnborn(dir string, set quorate.ReplicaSetID, replica quorate.ReplicaID) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch e.Name() {
		case voteFile:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if b, err := decodeBallot(data, set, replica); err != nil || b.term != genesisTerm || b.candidate != nil {
				return fmt.Errorf("%w: it has no manifest, but a vote", ErrFormedOtherwise)
			}
		case lowWaterFile:
		case logDir:
			inside, err := os.ReadDir(path)
			if err != nil {
				return err
			}
			if len(inside) != 0 {
				return fmt.Errorf("%w: it has no manifest, but a log", ErrFormedOtherwise)
			}
		default:
			return fmt.Errorf("%w: it has no manifest, but a file %q", ErrFormedOtherwise, e.Name())
		}
	}
	return nil
}
