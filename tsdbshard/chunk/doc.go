// Package chunk encodes runs of samples of one series, exact to the bit.
//
// Floats are columns: timestamps, start timestamps and values apart from each
// other, so that series of one scrape share their timestamps' bytes. Native
// histograms are chunkenc's chunks, in the variants that keep start
// timestamps. Nothing outside this package knows how samples are encoded;
// docs/format/chunk.md has the bytes, DESIGN.md why they are these.
//
// Invariants:
//
//   - What is decoded is what was encoded, bit for bit: NaN payloads, -0,
//     infinities, stale markers and counter reset hints included.
//   - A chunk is a function of its samples alone, not of what an encoder did
//     before.
//   - A decoder checks every length before it allocates; no bytes make it
//     panic, and what it gives is complete and in order.
package chunk
