package metasvc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// ErrClosed is what a closed state machine, and a Client, answer with.
var ErrClosed = errors.New("metadata service is closed")

// defaultChangeLog is how many changes are remembered unless told otherwise:
// a few hundred kB, and far more than happens while a watcher's connection is
// made anew.
const defaultChangeLog = 4096

// StateMachineConfig configures a StateMachine. Its zero value is the default.
type StateMachineConfig struct {
	// ChangeLog is how many changes are remembered for watchers that lag; one
	// that lags by more is served from the state. 0 means 4096.
	ChangeLog int
}

// StateMachine holds the metadata of one replica of the metadata group. The
// methods ApplyBatch, Freeze, Open, Restore and Close are called by the
// replica's apply goroutine, all others by anyone.
//
// Apply is a pure function of state and command: it reads no clock, no chance,
// no map order and no network, and it starts no goroutine.
type StateMachine struct {
	decoder wire.Decoder // of the apply goroutine

	mu     sync.RWMutex // guards what follows; never held over I/O
	state  *state
	log    changeLog
	more   chan struct{} // closed and replaced whenever the state moves on
	change uint64        // the index of the last entry that changed something
	news   chan struct{} // closed and replaced whenever something changed
	closed bool
}

// NewStateMachine returns a state machine that waits for Open.
func NewStateMachine(cfg StateMachineConfig) *StateMachine {
	if cfg.ChangeLog <= 0 {
		cfg.ChangeLog = defaultChangeLog
	}
	return &StateMachine{
		state: newState(),
		log:   changeLog{limit: cfg.ChangeLog},
		more:  make(chan struct{}),
		news:  make(chan struct{}),
	}
}

// Open loads the state that a manifest's payload describes, which is exactly
// at index. The empty payload is the genesis. The error wraps ErrCorrupt or
// ErrUnknownVersion.
func (m *StateMachine) Open(ctx context.Context, payload []byte, index uint64) error {
	if err := m.replace(ctx, payload, index); err != nil {
		return fmt.Errorf("open metadata at index %d: %w", index, err)
	}
	return nil
}

// Restore replaces the state by an installed snapshot's. Watchers get what
// differs.
func (m *StateMachine) Restore(ctx context.Context, payload []byte, index uint64) error {
	if err := m.replace(ctx, payload, index); err != nil {
		return fmt.Errorf("restore metadata at index %d: %w", index, err)
	}
	return nil
}

func (m *StateMachine) replace(ctx context.Context, payload []byte, index uint64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := decodeState(payload, index)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	m.log = changeLog{limit: m.log.limit, from: index}
	m.changedLocked(index)
	m.wakeLocked()
	return nil
}

// ApplyBatch applies committed entries in order; results[i][k] is the typed
// result, or the *Refusal, of command k of entries[i]. Entries at or below the
// state's index are answered with nothing. An error stops the replica: a
// damaged entry, one of another kind, or a command that this binary does not
// know (PROTOCOL 22). The entry it names and those after it have no effect.
func (m *StateMachine) ApplyBatch(entries []quorate.LogEntry) (results [][]any, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	defer m.wakeLocked()
	results = make([][]any, 0, len(entries))
	for _, e := range entries {
		if e.Index <= m.state.index {
			results = append(results, nil)
			continue
		}
		commands, err := m.decode(e)
		if err != nil {
			return results, fmt.Errorf("metadata entry %d: %w", e.Index, err)
		}
		m.state.index = e.Index
		answers := make([]any, len(commands))
		for k, c := range commands {
			answers[k] = c.apply(m.state, e.Term)
		}
		if changes := m.state.takeChanges(); len(changes) > 0 {
			m.log.add(changes)
			m.changedLocked(e.Index)
		}
		results = append(results, answers)
	}
	return results, nil
}

// decode decodes all commands of an entry before any of them is applied.
func (m *StateMachine) decode(e quorate.LogEntry) ([]Command, error) {
	entry, err := m.decoder.Decode(e.Data)
	if err != nil {
		return nil, err
	}
	if entry.Kind != wire.KindMeta {
		return nil, fmt.Errorf("%w: %d is not a metadata entry", wire.ErrUnknownKind, entry.Kind)
	}
	commands := make([]Command, len(entry.Commands))
	for k, b := range entry.Commands {
		if commands[k], err = DecodeCommand(b); err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
	}
	return commands, nil
}

func (m *StateMachine) changedLocked(index uint64) {
	m.change = index
	close(m.news)
	m.news = make(chan struct{})
}

func (m *StateMachine) wakeLocked() {
	close(m.more)
	m.more = make(chan struct{})
}

// Freeze captures the state at the last applied entry. It copies the tables'
// pointers, not the records: about 70 ns a record, 7 ms for 100,000 tenants.
func (m *StateMachine) Freeze() (quorate.Frozen, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, ErrClosed
	}
	return frozen{state: m.state.clone()}, nil
}

// Close ends all watches. It is idempotent.
func (m *StateMachine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		m.wakeLocked()
	}
	return nil
}

// AppliedIndex is the index of the last entry applied, or of the manifest.
func (m *StateMachine) AppliedIndex() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.index
}

// lastChange is the index of the last entry that changed something, or of the
// manifest.
func (m *StateMachine) lastChange() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.change
}

// changedSince returns a channel that is closed once something changed after an
// index. Entries whose commands were all refused close nothing, so that a
// controller is not woken by its own refusals.
func (m *StateMachine) changedSince(index uint64) <-chan struct{} {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.change > index {
		done := make(chan struct{})
		close(done)
		return done
	}
	return m.news
}

// read calls f with the state, which f must neither change nor keep. Records
// that f takes out of it may be kept.
func (m *StateMachine) read(f func(*state)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	f(m.state)
}

// snapshot returns the state at the last applied entry as a copy to keep.
func (m *StateMachine) snapshot() *state {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.clone()
}

// tenant returns the tenant of a name, nil when there is none, and the index
// at which that is so.
func (m *StateMachine) tenant(name string) (*Tenant, uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.tenantByName[name], m.state.index
}
