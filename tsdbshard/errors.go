package tsdbshard

import (
	"errors"

	"github.com/quorate/quorate"
)

var (
	// ErrDamaged is wrapped by every error about a block or a manifest
	// whose bytes are not what was written.
	ErrDamaged = errors.New("damaged bytes")
	// ErrFormat is wrapped when a file or manifest has a format version that
	// this binary does not know.
	ErrFormat = errors.New("unknown format version")
	// ErrVoid is returned by a Persist that a Restore, a later Freeze or Close
	// made pointless.
	ErrVoid = errors.New("the frozen state was replaced")

	// ErrNotOpen is wrapped when a shard is used before Open or after Close. It
	// is of the kind quorate.Unavailable.
	ErrNotOpen = quorate.Errorf(quorate.Unavailable, "the shard is not open")
)
