package interchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/quorate/quorate/internal/durable"
)

const importStateVersion = 1

// importState is what the state file says: how far each import got.
type importState struct {
	Version int             `json:"version"`
	Imports []*importRecord `json:"imports"`
}

// importRecord is one import: one selection of samples to one tenant of one
// server.
type importRecord struct {
	URL    string   `json:"url"`
	Tenant string   `json:"tenant,omitempty"`
	From   int64    `json:"from,omitempty"`
	To     int64    `json:"to,omitempty"`
	Match  []string `json:"match,omitempty"`
	// Blocks are those begun, by ULID.
	Blocks map[string]blockState `json:"blocks"`
}

// blockState is how far the import of one block got. All slices before Slice
// are done, and of Slice all series up to the one at Series in the index.
type blockState struct {
	Done bool `json:"done,omitempty"`
	// Slice is the start (ms) of the slice at work.
	Slice int64 `json:"slice,omitempty"`
	// Series is the reference of the last series of which everything in the
	// slice was acknowledged; 0 before the first.
	Series uint64 `json:"series,omitempty"`
	// Samples is how many samples of the block were acknowledged or refused.
	Samples uint64 `json:"samples"`
}

// readImportState reads a state file; a missing one is an empty state.
func readImportState(path string) (*importState, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &importState{Version: importStateVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := decodeImportState(data)
	if err != nil {
		return nil, fmt.Errorf("state file %s: %w; without it the import starts from the beginning, which is safe", path, err)
	}
	return s, nil
}

func decodeImportState(data []byte) (*importState, error) {
	var s importState
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != importStateVersion {
		return nil, fmt.Errorf("version %d is not known to this binary (it knows %d)", s.Version, importStateVersion)
	}
	for i, r := range s.Imports {
		if r == nil {
			return nil, fmt.Errorf("import %d is null", i)
		}
		for id, b := range r.Blocks {
			if _, err := ulid.ParseStrict(id); err != nil {
				return nil, fmt.Errorf("import %d: block %q: %w", i, id, err)
			}
			if b.Slice%sliceSpan != 0 {
				return nil, fmt.Errorf("import %d: block %s: no slice starts at %d", i, id, b.Slice)
			}
		}
	}
	return &s, nil
}

// record returns the record of an import, which is added if it is new.
func (s *importState) record(e *Endpoint, sel *Selection) *importRecord {
	r := &importRecord{URL: e.name(), Tenant: e.Tenant, From: sel.From, To: sel.To, Match: sel.Match}
	for _, known := range s.Imports {
		if known.URL == r.URL && known.Tenant == r.Tenant && known.From == r.From && known.To == r.To && slices.Equal(known.Match, r.Match) {
			r = known
			break
		}
	}
	if r.Blocks == nil {
		r.Blocks = make(map[string]blockState)
	}
	if !slices.Contains(s.Imports, r) {
		s.Imports = append(s.Imports, r)
	}
	return r
}

func (s *importState) encode() ([]byte, error) {
	data, err := json.MarshalIndent(s, "", "  ")
	return append(data, '\n'), err
}

// publishState writes a state file; an empty path keeps the state in memory.
func publishState(path string, data []byte) error {
	if path == "" {
		return nil
	}
	return durable.WriteFile(path, data)
}
