// Package simulation lives the life of ReplicaSets on three nodes in one
// process and in virtual time: hashicorp/raft and raft-wal through raftset,
// the shards of tsdbshard, real files, clients that write and read, and faults
// that come and go as a seed says. It is code of tests only, and is to be run
// in a bubble of testing/synctest.
//
// # Buckets
//
// Samples' time passes from one bucket into the next, two or three times in a
// run, of whatever length, and each bucket is one set: a Group and a Shard in
// every process, a ReplicaID of its own on every node. When the first writer
// has two thirds of a bucket behind it, the next set is formed, on those who
// are members then, while faults go on: a node that is down forms its replica
// when it starts, and the set works once a majority has. Each writer passes at
// its own pace and cuts its batches where a bucket ends; readers read mostly
// in the set that the foremost writer writes to, sometimes in another. Sets
// stay open until the end; sealing is not simulated here.
//
// # What is real
//
// Everything that is replicated code: raftset.Host and Group, raft-wal, the
// state machine, flushes, manifests, seeds, files that are fetched. Not real
// are the network, which is in memory, the time that disks take, the router,
// and the metadata: which sets there are is decided by their writers' time,
// and who is a member by the surgeon, which replaces a node now and then, in
// one set after the other, as internal/lifecycle does.
//
// Faults: partitions, nodes that are deaf or mute, links that are cut or
// one-way, loss, slow links, messages that are held back and come late; nodes
// killed, alone, as a majority, all, briefly or for so long that the others
// have deleted the log that they lack; restarts in order; disks that are slow,
// or hang until the process ends; transfers of leadership; flushes; replaced
// nodes; all of it while sets are formed and joined. Several at once. In every
// other run leaders read by leases (raftset.HostConfig.ReadLease), and in
// every other one of these some nodes take four times as long as others to
// find that they do not lead any more.
//
// # How a process is killed
//
// When every goroutine waits for virtual time to pass, a node's files are
// copied, its messages go nowhere from then on, and its clients hear nothing
// more from it; the next process starts on the copy. So the copy is of one
// moment, and marked as in use. Durable steps take virtual time before and
// after what they write, so that moments lie between all of them: an entry
// that is stored and not acknowledged, a block that is written and not named.
// What a power failure takes from the page cache is not simulated here;
// raftset and tsdbshard have tests of that.
//
// # What is checked
//
// Values are unique. Of each confirmed read (History), for the times of its
// bucket: what was acknowledged before the read began is there; so is what an
// earlier read has shown; nothing that was never sent, that everybody refused,
// or that is of another bucket; nothing twice. A batch that is not
// acknowledged is tried again as it is, or left with an unknown outcome, and
// may then appear at any time. Answers of the state machine are checked, and
// refs, for each set its own. Now and then a batch has a row outside of the
// bounds, which must be refused alone, or is one of another bounds version, of
// which nothing may be taken. No replica may be missing once it was made, fail
// or be quarantined, but for the failures by which raftset means to be opened
// again. In the end everything heals: within three minutes all members of all
// sets must have applied the same, have the bounds and the same logical
// checksum (tsdbshard.ChecksumView), and show everything; one more kill of all
// of them must change nothing. A run with too little load or without a
// rollover fails.
//
// TestMistakesAreFound and TestADivergenceIsFound make mistakes that have to
// be found; history_test.go has a history for each violation.
//
// # Running it
//
//	go test ./internal/simulation
//	QUORATE_SIM_SEEDS=60 QUORATE_SIM_MINUTES=30 go test -timeout 1h -run TestSimulation -v ./internal/simulation
//
// The second are 30 virtual hours. Ten virtual minutes cost 3 to 4 seconds of
// CPU, those that a set takes when it is idle among them. Stage simulation of
// .ci/run is 60 runs of ten minutes: four minutes of CPU. QUORATE_SIM_FIRST is
// the first seed. A failure prints the seed and the last events.
//
// A seed does not decide everything: raft draws its timeouts itself, and two
// goroutines that are ready at one virtual instant run in any order. So a seed
// says what goes wrong and when, and not how it ends; run one that failed some
// 50 times to see it again, and read the events.
package simulation
