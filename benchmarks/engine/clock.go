package engine

import (
	"runtime"
	"time"
)

// clock sums up the CPU time of what it is given.
type clock struct{ total time.Duration }

func (c *clock) run(f func() error) error {
	before := processTime()
	err := f()
	c.total += processTime() - before
	return err
}

// each is the time for one of n, in ns.
func (c *clock) each(n int) float64 { return float64(c.total.Nanoseconds()) / float64(n) }

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held on to
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
