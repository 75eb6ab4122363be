package wire

import "github.com/quorate/quorate/internal/cursor"

// reader is a cursor over encoded bytes that knows this package's columns.
type reader struct{ cursor.Cursor }

func newReader(b []byte) reader {
	return reader{Cursor: cursor.Cursor{B: b}}
}

// finish reports a failed read or bytes left over.
func (r *reader) finish(what string) error { return r.Finish(ErrCorrupt, what) }
