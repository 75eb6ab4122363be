package tsdbshard

import (
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// SealInfo is what a shard knows of its own seal.
type SealInfo struct {
	// Index is that of the log entry that sealed the set.
	Index uint64
	// Seal is that entry's command.
	Seal wire.Seal
}

// SealResult is what Apply answers for one seal command. The first one seals
// the set; every later one is answered alike, whatever it asks for.
type SealResult struct {
	// Index is that of the entry that sealed the set.
	Index uint64
}

// AppendSealCommand appends the command of a wire.KindSeal entry.
func AppendSealCommand(dst []byte, seal *wire.Seal) []byte { return seal.Append(dst) }

func (s *Shard) applySeals(index uint64, commands [][]byte) ([]any, error) {
	seals := make([]wire.Seal, len(commands))
	for k, c := range commands {
		var err error
		if seals[k], err = wire.DecodeSeal(c); err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]any, len(commands))
	for k := range seals {
		s.st.setSeal(SealInfo{Index: index, Seal: seals[k]})
		results[k] = &SealResult{Index: s.st.seal.Index}
	}
	s.st.advance(index)
	return results, nil
}

// setSeal seals the set unless it is sealed (PROTOCOL 14).
func (st *state) setSeal(info SealInfo) {
	if st.seal != nil {
		return
	}
	st.seal = &info
	st.bounds.State = quorate.SetSealed
	st.bounds.Version++
}

// Sealed returns what sealed the set, once that entry was applied, be it by an
// earlier life of the replica.
func (s *Shard) Sealed() (SealInfo, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.st == nil || s.st.seal == nil {
		return SealInfo{}, false
	}
	return *s.st.seal, true
}
