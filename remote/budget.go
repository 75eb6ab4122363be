package remote

import "sync/atomic"

// budget bounds a resource that requests hold while they are at work. Nothing
// waits for it: who does not fit is turned away and comes again.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take takes n if that fits.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.limit {
		b.used.Add(-n)
		return false
	}
	return true
}

// give gives n back.
func (b *budget) give(n int64) { b.used.Add(-n) }

// lease is what one request holds of a budget.
type lease struct {
	budget *budget
	held   int64
}

// take takes n more if that fits.
func (l *lease) take(n int64) bool {
	if !l.budget.take(n) {
		return false
	}
	l.held += n
	return true
}

// give gives n of what is held back.
func (l *lease) give(n int64) {
	l.budget.give(n)
	l.held -= n
}

// release gives everything back.
func (l *lease) release() { l.give(l.held) }
