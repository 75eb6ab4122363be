package interchange

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestADirectoryWithAHeadAlone(t *testing.T) {
	dir, blocks := threeBlocks(t)
	empty := t.TempDir()
	for _, d := range []string{dir, empty} {
		for _, name := range []string{"wal", "chunks_head"} {
			if err := os.MkdirAll(filepath.Join(d, name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if _, err := blocksAt(empty, logger); err == nil || !strings.Contains(err.Error(), "has no block yet") || log.Len() > 0 {
		t.Errorf("of a head alone: %v\n%s", err, &log)
	}
	if found, err := blocksAt(dir, logger); err != nil || len(found) != len(blocks) || strings.Count(log.String(), "head is not read") != 1 {
		t.Errorf("beside a head %d blocks are found, %v\n%s", len(found), err, &log)
	}
}
