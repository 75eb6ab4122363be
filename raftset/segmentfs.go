package raftset

import (
	"errors"

	"github.com/hashicorp/raft-wal/types"
)

// zeroBlock is how much of a new segment is zeroed by one write.
const zeroBlock = 256 << 10

// zeroedFS is raft-wal's file system, except that a new segment is not only
// allocated but written full of zeros and fsynced before it is used. An append
// into space that was merely allocated makes the file system convert the
// extent, so that each fsync commits its journal too: 8 KiB appends took 280 µs
// and 155 µs of CPU each, and take 185 µs and 110 µs of CPU into zeros (ext4).
// raft-wal makes the next segment in the background, so no append waits for it
// unless the one before filled up meanwhile.
type zeroedFS struct{ types.VFS }

// Create makes a file of size zero bytes, durable with its name.
func (z zeroedFS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := z.VFS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	if err := zero(f, int64(size)); err != nil {
		return nil, errors.Join(err, f.Close(), z.VFS.Delete(dir, name))
	}
	return f, nil
}

func zero(f types.WritableFile, size int64) error {
	zeros := make([]byte, min(size, zeroBlock))
	for at := int64(0); at < size; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(size-at, int64(len(zeros)))], at); err != nil {
			return err
		}
	}
	return f.Sync()
}
