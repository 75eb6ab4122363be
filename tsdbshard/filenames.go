package tsdbshard

import "fmt"

// flushFileName names the flush file of the log interval (lo, hi]:
// "flush-" lo "-" hi ".qff", both as 20 decimal digits.
func flushFileName(lo, hi uint64) string { return fmt.Sprintf("flush-%020d-%020d.qff", lo, hi) }

// isFlushFileName tells whether a name is one that flushFileName makes.
func isFlushFileName(name string) bool {
	var lo, hi uint64
	n, err := fmt.Sscanf(name, "flush-%d-%d.qff", &lo, &hi)
	return err == nil && n == 2 && name == flushFileName(lo, hi)
}
