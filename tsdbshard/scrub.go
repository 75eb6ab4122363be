package tsdbshard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Files lists the delta blocks of the shard's state, in log order; none when it is
// not open.
func (s *Shard) Files() []FileInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.st == nil {
		return nil
	}
	files := make([]FileInfo, 0, len(s.st.files))
	for _, f := range s.st.files {
		files = append(files, f.entry.info())
	}
	return files
}

// Scrub reads all of a block that a replica has and compares it with its hash.
// Before each piece pace is called with its length; nil never waits. The error
// names the file and wraps ErrDamaged when the bytes are others or cannot be read,
// fs.ErrNotExist when there is no file, which a flush may have merged away.
func Scrub(ctx context.Context, cfg Config, file FileInfo, pace func(ctx context.Context, bytes int) error) error {
	path := filepath.Join(cfg.Dir, file.Name)
	if err := scrub(ctx, cfg, path, file, pace); err != nil {
		return fmt.Errorf("block %s of set %v: %w", path, cfg.Set, err)
	}
	return nil
}

func scrub(ctx context.Context, cfg Config, path string, file FileInfo, pace func(ctx context.Context, bytes int) error) (err error) {
	f, err := cfg.Disk.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if uint64(info.Size()) != file.Bytes {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrDamaged, info.Size(), file.Bytes)
	}
	hash, buffer := sha256.New(), make([]byte, writeBufferBytes)
	for at := int64(0); at < info.Size(); {
		piece := buffer[:min(int64(len(buffer)), info.Size()-at)]
		if pace != nil {
			err = pace(ctx, len(piece))
		} else {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if n, err := f.ReadAt(piece, at); n < len(piece) {
			return fmt.Errorf("%w: at offset %d: %w", ErrDamaged, at+int64(n), err)
		}
		hash.Write(piece)
		at += int64(len(piece))
	}
	if got := [sha256.Size]byte(hash.Sum(nil)); got != file.SHA256 {
		return fmt.Errorf("%w: its hash is %x, not %x", ErrDamaged, got, file.SHA256)
	}
	return nil
}
