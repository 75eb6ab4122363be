// Package house checks the source tree against the rules of the house: which
// package may import which (ARCHITECTURE.md's tables are the input), that every
// package and exported name is documented, that files and functions stay short,
// that nothing sleeps, that no file speaks of the machine it was written on, and
// that each rule of docs/protocol.md has the tests that its table names.
//
// Each check is a function over a [Tree], which is read from any file system,
// so that each has a test of its own with a bad example. The package's tests
// run all of them over the project, nested modules included; a [Problem] says
// what to write instead.
//
// Invariants: nothing here is imported by the server; no check runs a program
// or needs the network; a file is parsed once.
package house
