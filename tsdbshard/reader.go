package tsdbshard

import "github.com/quorate/quorate/internal/cursor"

// reader is a cursor over the bytes of a manifest.
type reader struct{ cursor.Cursor }

func newReader(b []byte) reader {
	return reader{Cursor: cursor.Cursor{B: b}}
}

// finish reports a failed read, or bytes that are left over.
func (r *reader) finish(what string) error { return r.Finish(ErrDamaged, what) }
