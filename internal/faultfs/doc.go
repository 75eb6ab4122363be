// Package faultfs is a file system in memory for tests of durability: it fails
// or crashes at a chosen call, and after a crash it has what a real one is sure
// to have, and no more than a real one may have.
//
// What is durable follows POSIX as ext4 and xfs keep it: the bytes of a file
// once it was fsynced, the names of a directory once that was. What came later
// may have reached the disk or not: of each directory a prefix of its changes,
// of each file a prefix of its bytes.
package faultfs
