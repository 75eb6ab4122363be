package raftset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	testSet     quorate.ReplicaSetID = 7
	testReplica quorate.ReplicaID    = 3
	testKind                         = wire.KindMeta
)

// ledger is the dumb state machine of these tests: the list of all commands it
// was ever given. Its payload is the list itself.
type ledger struct {
	decoder wire.Decoder

	mu      sync.Mutex
	lines   []string
	index   uint64
	opened  bool
	closed  bool
	applies int

	// Faults, each checked by the method it is named after.
	applyErr, freezeErr, persistErr error
	applyPanic                      any
	// holdPersist, when set, makes Persist wait until it is closed or ctx ends.
	holdPersist chan struct{}
	// restoreTakes is how long Restore takes.
	restoreTakes time.Duration
	published    int
	discarded    int
}

const lineSeparator = "\n"

func encodeLines(lines []string) []byte { return []byte(strings.Join(lines, lineSeparator)) }

func decodeLines(payload []byte) []string {
	if len(payload) == 0 {
		return nil
	}
	return strings.Split(string(payload), lineSeparator)
}

func (l *ledger) Open(_ context.Context, payload []byte, index uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opened {
		return errors.New("opened twice")
	}
	l.opened, l.lines, l.index = true, decodeLines(payload), index
	return nil
}

func (l *ledger) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.applyErr != nil {
		return nil, l.applyErr
	}
	if l.applyPanic != nil {
		panic(l.applyPanic)
	}
	l.applies++
	results := make([][]any, len(entries))
	for i, e := range entries {
		if e.Index <= l.index {
			return nil, fmt.Errorf("entry %d applied after entry %d", e.Index, l.index)
		}
		entry, err := l.decoder.Decode(e.Data)
		if err != nil {
			return nil, err
		}
		for _, c := range entry.Commands {
			l.lines = append(l.lines, string(c))
			results[i] = append(results[i], "did "+string(c))
		}
		l.index = e.Index
	}
	return results, nil
}

func (l *ledger) Freeze() (quorate.Frozen, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freezeErr != nil {
		return nil, l.freezeErr
	}
	return &frozenLedger{ledger: l, payload: encodeLines(l.lines), hold: l.holdPersist}, nil
}

func (l *ledger) Restore(_ context.Context, payload []byte, index uint64) error {
	opening := time.NewTimer(l.restoreTakes)
	<-opening.C
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines, l.index = decodeLines(payload), index
	return nil
}

func (l *ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opened || l.closed {
		return errors.New("closed without an open")
	}
	l.closed = true
	return nil
}

func (l *ledger) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// with changes the ledger, or reads it, under its lock.
func (l *ledger) with(change func(*ledger)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(l)
}

type frozenLedger struct {
	ledger  *ledger
	payload []byte
	hold    chan struct{}
}

func (f *frozenLedger) Persist(ctx context.Context, _ uint64) ([]byte, error) {
	if f.hold != nil {
		select {
		case <-f.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	return f.payload, f.ledger.persistErr
}

func (f *frozenLedger) Published() { f.ledger.with(func(l *ledger) { l.published++ }) }
func (f *frozenLedger) Discard()   { f.ledger.with(func(l *ledger) { l.discarded++ }) }

func member(replica quorate.ReplicaID) Member {
	return Member{
		Node:    quorate.NodeID{Name: fmt.Sprintf("node%d", replica), Incarnation: quorate.Incarnation{byte(replica)}},
		Replica: replica,
	}
}

func genesis(set quorate.ReplicaSetID) Genesis {
	return Genesis{Set: set, Replica: testReplica, Voters: []Member{member(testReplica)}, Payload: []byte("genesis")}
}

func newHost(t testing.TB, cfg HostConfig) *Host {
	t.Helper()
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = minSegmentBytes
	}
	h, err := NewHost(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the host: %v", err)
		}
	})
	return h
}

func form(t testing.TB, h *Host, set quorate.ReplicaSetID) {
	t.Helper()
	if err := h.Form(t.Context(), genesis(set)); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, h *Host, set quorate.ReplicaSetID) (*Group, *ledger) {
	t.Helper()
	l := &ledger{}
	g, err := h.Open(t.Context(), set, testReplica, l)
	if err != nil {
		t.Fatal(err)
	}
	return g, l
}

// openLeader opens a replica and waits until it leads.
func openLeader(t testing.TB, h *Host, set quorate.ReplicaSetID) (*Group, *ledger) {
	t.Helper()
	g, l := open(t, h, set)
	awaitLeader(t, g)
	return g, l
}

func awaitLeader(t testing.TB, g *Group) {
	t.Helper()
	testwait.Until(t, "a leader", func() error {
		_, err := g.ConfirmRead(t.Context())
		return err
	})
}

func start(t testing.TB, cfg HostConfig) (*Host, *Group, *ledger) {
	t.Helper()
	h := newHost(t, cfg)
	form(t, h, testSet)
	g, l := openLeader(t, h, testSet)
	return h, g, l
}

func propose(t testing.TB, g *Group, command string) {
	t.Helper()
	got, err := g.Propose(t.Context(), testKind, []byte(command))
	if err != nil {
		t.Fatalf("propose %q: %v", command, err)
	}
	if want := "did " + command; got != want {
		t.Fatalf("propose %q: got the result %v, want %q", command, got, want)
	}
}

func proposeAll(t testing.TB, g *Group, prefix string, n int) []string {
	t.Helper()
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("%s-%d", prefix, i)
		propose(t, g, lines[i])
	}
	return lines
}

func closeGroup(t testing.TB, g *Group) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// crash returns a copy of a data directory as it is now, with groups running:
// what a power cut would leave, had every write reached the disk.
func crash(t testing.TB, dir string) string {
	t.Helper()
	var to string
	// A file may be renamed between its listing and its copying.
	testwait.Until(t, "a copy of the directory", func() error {
		to = t.TempDir()
		return os.CopyFS(to, os.DirFS(dir))
	})
	return to
}

func flipBit(t testing.TB, path string, offset int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if offset < 0 {
		offset += int64(len(data))
	}
	data[offset] ^= 0x10
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func wantLines(t testing.TB, l *ledger, want ...string) {
	t.Helper()
	want = append([]string{"genesis"}, want...)
	if got := l.all(); !slices.Equal(got, want) {
		t.Fatalf("the state machine holds %d lines %.300q\nwant %d lines %.300q", len(got), got, len(want), want)
	}
}

func replicaPath(dir string, names ...string) string {
	return filepath.Join(append([]string{replicaDir(dir, testSet, testReplica)}, names...)...)
}
