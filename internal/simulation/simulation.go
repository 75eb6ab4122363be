package simulation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/quorate/quorate"
)

// Config says what a run is.
type Config struct {
	// Seed decides what goes wrong when, and what the clients do.
	Seed uint64
	// Dir is an empty directory.
	Dir string
	// Length is how long faults and clients go on, in virtual time.
	Length time.Duration
	// Settle returns when everything but its caller waits for time to pass:
	// synctest.Wait.
	Settle func()

	mutant mutant
}

// mutant is a mistake that a run makes on purpose, which it has to find.
type mutant int

const (
	noMutant mutant = iota
	// readsUnconfirmed reads at a node that says it leads, without asking others.
	readsUnconfirmed
	// readsFollowers reads at any node.
	readsFollowers
	// acknowledgesEarly takes a batch for stored that a leader has taken and
	// not committed.
	acknowledgesEarly
	// forgets has killed processes find their files as they were some time ago:
	// a disk that says fsync is done when it is not.
	forgets
	// promisesTooMuch has members promise leaders more than they keep.
	promisesTooMuch
	// boundless has sets take samples of any time.
	boundless
	// diverges has every other member apply what is in no log.
	diverges
)

// What a run consists of.
const (
	founders        = 3
	writers         = 3
	seriesPerWriter = 4
	readers         = 3
	usualWritePause = 300 * time.Millisecond
	usualReadPause  = 400 * time.Millisecond
	// convergence is how long healed sets may take until their members are equal.
	convergence = 3 * time.Minute
)

func (*Config) writeEvery() time.Duration { return usualWritePause }
func (*Config) readEvery() time.Duration  { return usualReadPause }
func (*Config) series() int               { return writers * seriesPerWriter }

// The streams of chance.
const (
	streamRun uint64 = iota + 1
	streamNetwork
	streamNemesis
	streamMembers
	streamClients uint64 = 100
	streamDisks   uint64 = 1000
)

// Report says what a run was.
type Report struct {
	Seed    uint64
	Virtual time.Duration
	// Counts says how often what happened.
	Counts map[string]int
	// ReadLease tells whether leases were in use, ByLease how many reads were
	// confirmed by one.
	ReadLease bool
	ByLease   int
	// Sets says how many there were, Terms and Entries what their logs have at
	// the end, Samples what each member holds.
	Sets                    int
	Terms, Entries, Samples uint64
	// Trace has the last events.
	Trace []string
}

// String prints the report in one line.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v virtual, %d sets, %d terms, %d entries, %d samples", r.Seed, r.Virtual.Round(time.Second), r.Sets, r.Terms, r.Entries, r.Samples)
	if r.ReadLease {
		fmt.Fprintf(&b, ", %d reads by lease", r.ByLease)
	}
	for _, what := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, ", %s %d", what, r.Counts[what])
	}
	return b.String()
}

// simulation is one run.
type simulation struct {
	cfg     Config
	trace   *trace
	network *network
	history *History
	// trailing is what flushes keep of the log.
	trailing int
	// readLease is the setting of all nodes.
	readLease bool
	// patient tells that some nodes believe in themselves for longer than others:
	// what a leader's process does that was stopped for a while.
	patient bool
	// quiet is held by whoever has everything settle.
	quiet chan struct{}
	// watchers are the goroutines of processes, the dead ones too.
	watchers sync.WaitGroup
	// forming are those who form replicas of new sets.
	forming sync.WaitGroup
	cancel  context.CancelCauseFunc

	mu sync.Mutex
	// sets are one after another in sample time; present is the number of the
	// one that the foremost writer has got to.
	sets    []*replicaSet
	present int
	// nodes are those that have, or get, a replica of every set.
	nodes []*node
	// office has those of them on which the next set is formed: not a node that
	// is being replaced, but the one that replaces it.
	office []*node
	// registries are those of all processes, the dead ones too.
	registries []*prometheus.Registry
	counts     map[string]int
	failed     error
}

// Run is one run: it starts a set, and others after it, lets clients write and read while faults come
// and go, heals, and compares all members. It returns what it found to be wrong.
// It is to be called in a synctest bubble.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	s := &simulation{
		cfg: cfg, trace: newTrace(), history: NewHistory(), quiet: make(chan struct{}, 1),
		network: newNetwork(newChance(cfg.Seed, streamNetwork)), counts: make(map[string]int),
	}
	s.network.exaggerates = cfg.mutant == promisesTooMuch
	own := newChance(cfg.Seed, streamRun)
	// Half of the runs send manifests to who lags a little, half sends entries.
	s.trailing = []int{1, 256 << 10}[own.below(2)]
	// Every other run reads by leases as long as there are any.
	s.readLease = cfg.Seed%2 == 0 || cfg.mutant == promisesTooMuch
	s.patient = cfg.Seed%4 == 0 || cfg.mutant == promisesTooMuch
	report := &Report{Seed: cfg.Seed}
	began := time.Now()
	err := s.run(ctx, report)
	report.Virtual, report.Trace = time.Since(began), s.trace.all()
	s.mu.Lock()
	defer s.mu.Unlock()
	report.Counts = maps.Clone(s.counts)
	report.ReadLease, report.ByLease = s.readLease, s.byLease()
	return report, err
}

func (s *simulation) run(ctx context.Context, report *Report) error {
	// The processes outlive the clients, and what they do when they end.
	ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.cancel(nil)
	for i := range founders {
		s.admit(newNode(s, i+1), nil)
	}
	s.mu.Lock()
	s.plan()
	s.mu.Unlock()
	for _, n := range s.members() {
		s.must(n.start(ctx))
	}
	s.live(ctx)
	if s.failure() == nil {
		s.must(s.converge(ctx, report))
	}
	for _, n := range s.members() {
		n.end()
	}
	s.watchers.Wait()
	s.network.close()
	return s.failure()
}

// live lets clients and faults do what they do, and heals in the end.
func (s *simulation) live(ctx context.Context) {
	calls, cancel := context.WithCancel(ctx)
	defer cancel()
	over := make(chan struct{})
	var clients, faults sync.WaitGroup
	for i := range writers {
		w := &writer{sim: s, chance: newChance(s.cfg.Seed, streamClients+uint64(i)), routes: make(map[*replicaSet]*route)}
		for k := range seriesPerWriter {
			w.series = append(w.series, i*seriesPerWriter+k)
		}
		clients.Go(func() { w.run(calls) })
	}
	for i := range readers {
		r := &reader{sim: s, chance: newChance(s.cfg.Seed, streamClients+uint64(writers+i))}
		clients.Go(func() { r.run(calls) })
	}
	faults.Go(func() { newNemesis(s).run(ctx, over) })
	faults.Go(func() { newSurgeon(s).run(ctx, over) })
	if s.cfg.mutant == forgets {
		faults.Go(func() { s.remember(over) })
	}
	pause(ctx, s.cfg.Length)
	cancel()
	close(over)
	clients.Wait()
	s.forming.Wait()
	faults.Wait()
}

// fail notes the first thing that is wrong, and ends the run.
func (s *simulation) fail(err error) {
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = err
	}
	s.mu.Unlock()
	if first {
		s.trace.add("WRONG: %v", err)
		s.cancel(err)
	}
}

// must is fail for what may be nil, or come of the run's end.
func (s *simulation) must(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		s.fail(err)
	}
}

func (s *simulation) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *simulation) count(what string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what] += n
}

// byLease counts the reads that leases have confirmed. The lock is the caller's.
func (s *simulation) byLease() (n int) {
	for _, r := range s.registries {
		families, err := r.Gather()
		if err != nil {
			continue // a registry whose host was not made
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "quorate_raft_confirmed_reads_total" && m.GetLabel()[0].GetValue() == "lease" {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// registry makes the registry of one process.
func (s *simulation) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.registries = append(s.registries, r)
	return r
}

// members returns the nodes that have, or get, a replica of every set.
func (s *simulation) members() []*node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nodes)
}

// admit makes a node a member, in place of another, if there is one, and returns
// the sets that there are: those that follow are formed on the one and not on the
// other.
func (s *simulation) admit(n, inPlaceOf *node) []*replicaSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = append(s.nodes, n)
	s.office = append(slices.DeleteFunc(s.office, func(o *node) bool { return o == inPlaceOf }), n)
	return slices.Clone(s.sets)
}

func (s *simulation) drop(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes = slices.DeleteFunc(s.nodes, func(o *node) bool { return o == n })
}

func (s *simulation) anyNode(c *chance) *node {
	all := s.members()
	return all[c.below(len(all))]
}

// nodeOf returns a node by its ID, nil if it is no member.
func (s *simulation) nodeOf(id quorate.NodeID) *node {
	for _, n := range s.members() {
		if n.id == id {
			return n
		}
	}
	return nil
}

func (s *simulation) processOf(id quorate.NodeID) *process {
	if n := s.nodeOf(id); n != nil {
		return n.process()
	}
	return nil
}
