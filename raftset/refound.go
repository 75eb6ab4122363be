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
)

// Refounding is how a group goes on that has lost its majority for ever: as a
// group of one voter, under a ReplicaID that the lost group never had, from a
// state that its owner has kept. It is another group with the same set: its
// members and those of the lost one refuse each other's messages, since neither
// knows the other's ReplicaIDs.
type Refounding struct {
	Set quorate.ReplicaSetID
	// Voter is the one member.
	Voter Member
	// Index and Term are where its log begins: beyond everything that the lost
	// group may have written.
	Index, Term uint64
	// Payload describes the state machine's state there.
	Payload []byte
}

// Refound makes the directory of the one replica of a group that goes on; Open
// then starts it. Whoever calls it answers for it that the old group is gone. It
// is idempotent. Errors wrap ErrFormedOtherwise or ErrQuarantined when the
// directory holds something else.
func (h *Host) Refound(ctx context.Context, r Refounding) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := h.refound(r); err != nil {
		return fmt.Errorf("refound set %d as replica %d: %w", r.Set, r.Voter.Replica, err)
	}
	return nil
}

func (h *Host) refound(r Refounding) error {
	if r.Voter.Replica == 0 || r.Index <= genesisIndex || r.Term <= genesisTerm {
		return fmt.Errorf("replica %d at index %d, term %d is not one that follows another group", r.Voter.Replica, r.Index, r.Term)
	}
	if err := h.reserve(r.Set); err != nil {
		return err
	}
	defer h.unreserve(r.Set)
	first := &manifest{
		set: r.Set, replica: r.Voter.Replica, index: r.Index, term: r.Term, configurationIndex: r.Index,
		servers: []server{{Member: r.Voter, suffrage: raft.Voter}}, payload: r.Payload,
	}
	b := binary.AppendUvarint(nil, uint64(r.Set))
	b = appendServers(b, first.servers)
	b = binary.AppendUvarint(binary.AppendUvarint(b, r.Index), r.Term)
	first.genesis = sha256.Sum256(cursor.AppendBytes(b, r.Payload))
	dir := replicaDir(h.cfg.Dir, r.Set, r.Voter.Replica)
	if err := checkQuarantine(dir); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, manifestFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.plant(dir, first)
	case err != nil:
		return err
	}
	return sameGenesis(data, first)
}
