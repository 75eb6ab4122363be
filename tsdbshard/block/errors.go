package block

import "errors"

var (
	// ErrDamaged is wrapped by every error about a file whose bytes are not
	// what was written, or that cannot be read; the text names page and offset.
	ErrDamaged = errors.New("damaged block")
	// ErrFormat is wrapped when a file has a format version that this binary
	// does not know; the text names it.
	ErrFormat = errors.New("unknown block format")

	// errOrder is wrapped when a writer is called out of order. The file under
	// way is then of no use.
	errOrder = errors.New("written out of order")
)
