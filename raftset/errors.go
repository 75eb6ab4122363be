package raftset

import (
	"errors"
	"fmt"

	"github.com/quorate/quorate"
)

var (
	// ErrOutcomeUnknown is wrapped when a proposal may or may not take effect:
	// leadership, the replica or the caller's patience was lost while it was
	// in flight. Kind Unavailable: a retry is safe, since Apply is idempotent.
	ErrOutcomeUnknown = quorate.Errorf(quorate.Unavailable, "the outcome of the proposal is unknown")
	// ErrOverloaded is wrapped when a group's proposal queue is full. Kind Unavailable.
	ErrOverloaded = quorate.Errorf(quorate.Unavailable, "the group is overloaded")
	// ErrNoSpace is wrapped when HostConfig.Exhausted says that the disk has no
	// room. Nothing was proposed. Kind Unavailable.
	ErrNoSpace = quorate.Errorf(quorate.Unavailable, "the disk has no room for log entries")
	// ErrStopped is wrapped by calls on a group that is closed. Kind Unavailable.
	ErrStopped = quorate.Errorf(quorate.Unavailable, "the replica is stopped")
	// ErrBroken is wrapped by calls on a group whose replica failed and was
	// stopped; the text has the reason. Kind Unavailable.
	ErrBroken = quorate.Errorf(quorate.Unavailable, "the replica is broken")

	// ErrNotFormed is wrapped by Open when nothing was ever formed there.
	ErrNotFormed = errors.New("the replica was never formed here")
	// ErrFormedOtherwise is wrapped by Form when the directory holds something
	// that is not this genesis (PROTOCOL 2).
	ErrFormedOtherwise = errors.New("the directory holds something else than this genesis")
	// ErrQuarantined is wrapped when the replica's directory was found damaged,
	// now or earlier, and renamed aside; it never starts again (PROTOCOL 16).
	ErrQuarantined = errors.New("the replica is quarantined")
	// ErrDamaged is wrapped by every error about stored bytes that are not what
	// was once written: a failed checksum, a missing file, a log that ends
	// before its low-water mark.
	ErrDamaged = errors.New("damaged")
	// ErrReopen is wrapped by failures that opening the replica again cures.
	ErrReopen = errors.New("the replica has to be opened again")
	// ErrSuperseded is wrapped when a flush finds that the manifest it started
	// from has been replaced (PROTOCOL 21).
	ErrSuperseded = errors.New("the manifest has been replaced meanwhile")
)

// NotLeaderError tells that this replica does not lead its set. It is found in
// an error's chain with errors.As; the chain's kind is Unavailable.
type NotLeaderError struct {
	// Set is the ReplicaSet that was addressed.
	Set quorate.ReplicaSetID
	// Leader is the member that leads as far as this replica knows; its
	// Replica is 0 when none is known.
	Leader Member
}

// Error names the set and the leader.
func (e *NotLeaderError) Error() string {
	if e.Leader.Replica == 0 {
		return fmt.Sprintf("set %d: this replica is not the leader, and none is known", e.Set)
	}
	return fmt.Sprintf("set %d: this replica is not the leader; %s is", e.Set, e.Leader)
}

func notLeader(set quorate.ReplicaSetID, leader Member) error {
	return &quorate.Error{Kind: quorate.Unavailable, Err: &NotLeaderError{Set: set, Leader: leader}}
}

// damaged makes an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

// versionError tells of a whole record in a format this binary does not know.
// It is no damage: a newer binary can read it.
type versionError struct {
	magic     string
	got, want byte
}

func (e *versionError) Error() string {
	return fmt.Sprintf("record %q has format version %d; this binary knows %d", e.magic, e.got, e.want)
}
