//go:build unix

package engine

import (
	"syscall"
	"time"
)

// processTime returns the CPU time that the process has used.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0 // it has no other error than for a bad argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
