package tsdbshard

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/quorate/quorate/internal/wire"
)

const (
	// incomingDir is where, in a replica's directory, files of other replicas
	// gather until a manifest that names them is loaded. What lies in it counts
	// for nothing.
	incomingDir = "incoming"
	// partSuffix ends the name of a file in it that is not whole yet.
	partSuffix = ".part"
)

// FileInfo names a file of a replica and what its bytes are.
type FileInfo struct {
	// Name is the file's name in the replica's directory. It has the hash in it,
	// or the hash's first bytes.
	Name string
	// Bytes is its length, SHA256 the hash of all of it.
	Bytes  uint64
	SHA256 [sha256.Size]byte
}

// FilesOf returns the delta blocks that the payload of a manifest names, in log
// order. The error wraps ErrDamaged or ErrFormat.
func FilesOf(payload []byte) ([]FileInfo, error) {
	m, err := decodeManifest(payload)
	if err != nil {
		return nil, err
	}
	files := make([]FileInfo, 0, len(m.files))
	for i := range m.files {
		files = append(files, m.files[i].info())
	}
	return files, nil
}

func (e *fileEntry) info() FileInfo {
	return FileInfo{Name: e.name(), Bytes: e.bytes, SHA256: e.sha256}
}

// SealedFileInfo returns what a canonical block is as a file.
func SealedFileInfo(f wire.SealedFile) FileInfo {
	return FileInfo{Name: SealedFileName(f), Bytes: f.Bytes, SHA256: f.Hash}
}

// check tells whether the name is that of a block with the hash. It keeps a name
// that another node sent from leading anywhere else.
func (f *FileInfo) check() error {
	prefix := fmt.Sprintf("-%x%s", f.SHA256[:deltaNameHashBytes], deltaSuffix)
	delta := isDeltaFileName(f.Name) && strings.HasSuffix(f.Name, prefix)
	if !delta && f.Name != SealedFileName(wire.SealedFile{Hash: f.SHA256}) || f.Bytes > math.MaxInt64 {
		return fmt.Errorf("%w: %q of %d bytes is not the name of a block with hash %x", ErrDamaged, f.Name, f.Bytes, f.SHA256)
	}
	return nil
}

func (c *Config) incoming(name string) string { return filepath.Join(c.Dir, incomingDir, name) }

// Stage makes ready for a manifest from another replica: of the files that its
// payload names, those which this replica has are kept for it, whatever becomes
// of them meanwhile, and those which are missing are returned, to be received.
// When none is missing, a Restore or an Open by that payload finds them all. The
// shard may be open or not; one Stage of a directory at a time.
func Stage(cfg Config, payload []byte) (missing []FileInfo, err error) {
	files, err := FilesOf(payload)
	if err != nil {
		return nil, fmt.Errorf("stage files of set %v: %w", cfg.Set, err)
	}
	if err := cfg.Disk.MkdirAll(cfg.incoming("")); err != nil {
		return nil, fmt.Errorf("stage files of set %v: %w", cfg.Set, err)
	}
	for _, f := range files {
		if _, err := cfg.Disk.Stat(cfg.incoming(f.Name)); err == nil {
			continue
		}
		// A link outlives the file, which a flush may merge away. Where there
		// are no links, the file is received like one that is not here.
		if os.Link(filepath.Join(cfg.Dir, f.Name), cfg.incoming(f.Name)) != nil {
			missing = append(missing, f)
		}
	}
	return missing, cfg.Disk.SyncDir(cfg.incoming(""))
}

// FileReceiver takes in one file of another replica, piece by piece. What has
// come stays when it is closed, or when the process ends, and a later one goes
// on behind it. One at a time receives a file. It belongs to one goroutine.
type FileReceiver struct {
	cfg    Config
	want   FileInfo
	file   *os.File
	offset int64
}

// ReceiveFile begins to receive a file, or goes on with it. The error wraps
// ErrDamaged if the name is none that such a file can have.
func ReceiveFile(cfg Config, want FileInfo) (*FileReceiver, error) {
	r, err := receiveFile(cfg, want)
	if err != nil {
		return nil, fmt.Errorf("receive a file of set %v: %w", cfg.Set, err)
	}
	return r, nil
}

func receiveFile(cfg Config, want FileInfo) (_ *FileReceiver, err error) {
	if err := want.check(); err != nil {
		return nil, err
	}
	if err := cfg.Disk.MkdirAll(cfg.incoming("")); err != nil {
		return nil, err
	}
	// Not through Disk, which publishes whole files only. This one is not
	// published before Finish.
	file, err := os.OpenFile(cfg.incoming(want.Name+partSuffix), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	r := &FileReceiver{cfg: cfg, want: want, file: file}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if r.offset = info.Size(); uint64(r.offset) > want.Bytes {
		r.offset = 0 // whatever it is, it is not a part of this file
		err = file.Truncate(0)
	}
	return r, err
}

// Offset returns how many bytes are there: where the next piece begins.
func (r *FileReceiver) Offset() uint64 { return uint64(r.offset) }

// Write appends a piece. More bytes than the file has are an error that wraps
// ErrDamaged, and none of the piece is taken.
func (r *FileReceiver) Write(piece []byte) (int, error) {
	if uint64(len(piece)) > r.want.Bytes-uint64(r.offset) {
		return 0, fmt.Errorf("receive %s: %w: it has more than %d bytes", r.want.Name, ErrDamaged, r.want.Bytes)
	}
	n, err := r.file.WriteAt(piece, r.offset)
	r.offset += int64(n)
	return n, err
}

// Finish checks that the file is the one that was wanted, by reading all of it,
// and makes it durable. It lies then where Open, Restore and AdoptFile find it.
// When its bytes are not those that were wanted, which an error that wraps
// ErrDamaged tells, they are removed, and so they are when they cannot be made
// durable; when it is not whole, they stay. The receiver is closed either way.
func (r *FileReceiver) Finish(ctx context.Context) error {
	gone, err := r.finish(ctx)
	err = errors.Join(err, r.Close())
	part := r.cfg.incoming(r.want.Name + partSuffix)
	if err == nil {
		err = r.cfg.Disk.Rename(part, r.cfg.incoming(r.want.Name))
	} else if gone {
		err = errors.Join(err, os.Remove(part))
	}
	if err != nil {
		return fmt.Errorf("receive %s of set %v: %w", r.want.Name, r.cfg.Set, err)
	}
	return nil
}

// finish tells, beside its error, that what has come is of no use.
func (r *FileReceiver) finish(ctx context.Context) (useless bool, err error) {
	if uint64(r.offset) != r.want.Bytes {
		return false, fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, r.offset, r.want.Bytes)
	}
	// After a failed fsync the bytes may be readable and not on the disk.
	if err := r.file.Sync(); err != nil {
		return true, err
	}
	hash := sha256.New()
	buffer := make([]byte, writeBufferBytes)
	for at := int64(0); at < r.offset; {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		n, err := r.file.ReadAt(buffer[:min(int64(len(buffer)), r.offset-at)], at)
		if err != nil {
			return true, err
		}
		hash.Write(buffer[:n])
		at += int64(n)
	}
	if got := [sha256.Size]byte(hash.Sum(nil)); got != r.want.SHA256 {
		return true, fmt.Errorf("%w: its hash is %x, not %x", ErrDamaged, got, r.want.SHA256)
	}
	return false, nil
}

// Close ends the receiving; what has come stays. A second Close, and one after
// Finish, does nothing.
func (r *FileReceiver) Close() error {
	if r.file == nil {
		return nil
	}
	file := r.file
	r.file = nil
	return file.Close()
}

// AdoptFile gives a file that was received its place in the replica's directory,
// durably. It is for canonical blocks; delta blocks are adopted by the shard that
// loads the manifest which names them. The error wraps fs.ErrNotExist when the
// file was not received.
func AdoptFile(cfg Config, f FileInfo) error {
	if err := cfg.Disk.Rename(cfg.incoming(f.Name), filepath.Join(cfg.Dir, f.Name)); err != nil {
		return fmt.Errorf("adopt %s of set %v: %w", f.Name, cfg.Set, err)
	}
	// Nothing should tell a replica that received its file from one that built
	// it. The directory stays when there is anything left in it.
	_ = cfg.Disk.Remove(cfg.incoming(""))
	return nil
}

// adopt gives the received files that a manifest names their place, and keeps
// those that are there from being removed. With sweep it removes what else was
// received for a manifest: it is done before anything can be under way for
// another one. What is missing is for the load to find.
func (s *Shard) adopt(m *manifest, sweep bool) error {
	s.names.Lock()
	defer s.names.Unlock()
	named := make(map[string]bool, len(m.files))
	for i := range m.files {
		named[m.files[i].name()] = true
	}
	s.mu.Lock()
	for _, f := range s.retired {
		if named[f.entry.name()] {
			f.reprieve()
		}
	}
	s.mu.Unlock()
	disk := s.cfg.Disk
	if _, err := disk.Stat(s.cfg.incoming("")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for name := range named {
		if err := s.adoptOne(name); err != nil {
			return err
		}
	}
	if !sweep {
		return nil
	}
	entries, err := disk.ReadDir(s.cfg.incoming(""))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !isDeltaFileName(strings.TrimSuffix(e.Name(), partSuffix)) {
			continue
		}
		if err := disk.Remove(s.cfg.incoming(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// adoptOne moves a received file into its place, unless one of that name, and so
// of that content, is there.
func (s *Shard) adoptOne(name string) error {
	disk, place := s.cfg.Disk, filepath.Join(s.cfg.Dir, name)
	_, err := disk.Stat(place)
	switch {
	case err == nil:
		err = disk.Remove(s.cfg.incoming(name))
	case errors.Is(err, fs.ErrNotExist):
		err = disk.Rename(s.cfg.incoming(name), place)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
