// Package interchange carries samples between Prometheus TSDB blocks and a
// running server. It speaks the public HTTP API alone, as any client does:
// remote write 2.0 into the server, streamed remote read out of it.
//
// # Import
//
// Blocks are read one at a time in order of time, each in slices of a UTC day,
// each slice series by series in the order of labels. A request therefore holds
// many samples of few series, and the server has one or two buckets open at a
// time, not as many as the block has days. Each sample is sent as it was read:
// the bits of a float, a histogram's buckets and counter-reset hint, the start
// timestamp. Blocks hold neither exemplars nor metadata, so none are sent; the
// head (WAL and memory-mapped chunks) is not a block and not read.
//
// Requests are in flight concurrently, but a series never is twice: a request
// that goes on with the series that ended the one before waits for it. So no
// sample overtakes an older one of its series.
//
// Resumption: the state file records, for each block, the slice and the series
// behind which everything was acknowledged. The series is named by its offset
// in the block's index, which is exact and to which reading can jump. A block
// never changes under its ULID. What was sent but not recorded is sent again,
// which changes nothing: the server takes an equal sample for a success.
//
// # Export
//
// Each window of time becomes one block. The server streams the window's series
// in the order of labels; they are spooled to a file as they come, since a
// block's index starts with all symbols, and then handed to Prometheus' own
// compactor, which writes the block, fsyncs it and renames it into place. Memory
// is the symbols, eight bytes a series and the chunks of one series.
//
// # Invariants
//
//  1. Nothing below a path given to Import is written to.
//  2. A position is recorded as done only after every request up to it was
//     answered by 2xx or, if errors are to be passed over, by a counted 400.
//  3. A directory of blocks in an export's output is complete: it got its name
//     by rename. Whatever has no block's name there is the export's own.
//  4. There is one retry loop, retrier.do, for both directions.
package interchange
