//go:build !unix

package engine

import "time"

// processTime returns wall time, where CPU time is not to be had simply: the
// figures then depend on what else runs.
func processTime() time.Duration { return time.Duration(time.Now().UnixNano()) }
