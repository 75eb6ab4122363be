package interchange

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/internal/durable"
)

const (
	exportStateFile    = "quorate-export.json"
	exportStateVersion = 1
)

// exportState is what stands beside the blocks of an export: what it is an
// export of, and which windows are done.
type exportState struct {
	Version int    `json:"version"`
	URL     string `json:"url"`
	Tenant  string `json:"tenant,omitempty"`
	Match   string `json:"match"`
	From    int64  `json:"from"`
	To      int64  `json:"to"`
	Span    int64  `json:"span_ms"`
	// Windows has the ULID of the block of each window that is done, by the
	// window's start (ms); it is empty for a window without samples.
	Windows map[int64]string `json:"windows"`
}

func newExportState(c *ExportConfig) *exportState {
	return &exportState{
		Version: exportStateVersion, URL: c.Endpoint.name(), Tenant: c.Endpoint.Tenant, Match: c.Match,
		From: c.From, To: c.To, Span: c.BlockSpan.Milliseconds(), Windows: map[int64]string{},
	}
}

// openExportState reads the state in a directory, which must be of the export
// that want describes, or makes want the state of an empty one.
func openExportState(dir string, want *exportState) (*exportState, error) {
	path := filepath.Join(dir, exportStateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			// A crash may have cut the first publication of the state short.
			if !strings.HasPrefix(e.Name(), exportStateFile) {
				return nil, fmt.Errorf("output directory %s holds %q and no %s: it is not empty, and no export of ours", dir, e.Name(), exportStateFile)
			}
		}
		return want, want.save(dir)
	}
	if err != nil {
		return nil, err
	}
	s, err := decodeExportState(data)
	if err != nil {
		return nil, fmt.Errorf("file %s: %w", path, err)
	}
	if found, asked := s.String(), want.String(); found != asked {
		return nil, fmt.Errorf("output directory %s has an export of %s; asked for is one of %s: give it another directory", dir, found, asked)
	}
	return s, nil
}

func decodeExportState(data []byte) (*exportState, error) {
	var s exportState
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, err
	}
	if s.Version != exportStateVersion {
		return nil, fmt.Errorf("version %d is not known to this binary (it knows %d)", s.Version, exportStateVersion)
	}
	if s.Windows == nil {
		s.Windows = map[int64]string{}
	}
	for start, id := range s.Windows {
		if id != "" && !isULID(id) {
			return nil, fmt.Errorf("the window from %d has the block %q, which is no ULID", start, id)
		}
	}
	return &s, nil
}

// String says what the export is of, apart from how far it got.
func (s *exportState) String() string {
	return fmt.Sprintf("%s, tenant %q, %s, from %s to %s in blocks of %d ms", s.URL, s.Tenant, s.Match, formatTime(s.From), formatTime(s.To), s.Span)
}

func (s *exportState) save(dir string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, exportStateFile), append(data, '\n'))
}
