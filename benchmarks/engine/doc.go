// Package engine measures the storage engine beside Prometheus' own, in one
// process and over the same samples: tsdbshard against tsdb.Head, the blocks of
// both, and the encodings of package chunk against chunkenc's.
//
// A [Config] says how much; [Compare] measures and returns a [Report], which
// prints itself as one table. benchmarks/engine/compare is that as a command.
//
// Invariants:
//
//   - Both engines get the samples of package mix, sample by sample the same;
//     what they answer is compared as it is measured.
//   - Making the samples and encoding log entries is on no clock. What is on it
//     is CPU time of the whole process, the garbage collector included, since
//     wall time depends on who else is on the machine.
package engine
