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
//   - Floats, timestamps and start timestamps are decoded as they were encoded,
//     bit for bit: NaN payloads, -0, infinities and stale markers included.
//   - Histograms keep what chunkenc keeps: schema, counts, sum and buckets, to
//     which empty ones may be added; of a stale one that it is stale. A gauge
//     stays one, and a known counter reset that begins a chunk stays known; any
//     other counter reset hint becomes what the chunk knows of the histogram
//     before, no reset or nothing. A zero threshold of -0 becomes 0.
//   - A chunk is a function of its samples alone, not of what an encoder did
//     before.
//   - A decoder checks every length before it allocates; no bytes make it
//     panic, and what it gives is complete and in order.
package chunk
