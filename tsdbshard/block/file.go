package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/internal/durable"
)

// file is an opened block: its directory, and the file that pages are read
// from. It is closed when its last user releases it.
type file struct {
	f     durable.File
	dir   *directory
	cache *Cache
	// id tells the block from others in the cache.
	id   uint64
	refs atomic.Int64
	// path names the file in errors, empty for no name; damaged is told of damage,
	// nil for nobody.
	path    string
	damaged func(error)
	// buffers are for pages whose bytes are copied out.
	buffers sync.Pool // of *[]byte
}

// openFile reads footer and directory. f is closed by the last release; when
// openFile fails it stays open.
func openFile(f durable.File, options []Option) (*file, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open block: %w: %w", ErrDamaged, err)
	}
	dir, err := openDirectory(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("open block %s: %w", info.Name(), err)
	}
	o := &file{f: f, dir: dir}
	for _, option := range options {
		option(o)
	}
	o.id = o.cache.newID()
	o.refs.Store(1)
	return o, nil
}

func openDirectory(f io.ReaderAt, size int64) (*directory, error) {
	if size < footerBytes {
		return nil, fmt.Errorf("footer: %w: a file of %d bytes", ErrDamaged, size)
	}
	tail := make([]byte, footerBytes)
	if err := readAt(f, tail, size-footerBytes); err != nil {
		return nil, fmt.Errorf("footer at offset %d: %w", size-footerBytes, err)
	}
	foot, err := readFooter(tail, size)
	if err != nil {
		return nil, fmt.Errorf("footer at offset %d: %w", size-footerBytes, err)
	}
	page := make([]byte, foot.directoryLength)
	if err := readAt(f, page, foot.directoryOffset); err != nil {
		return nil, fmt.Errorf("directory at offset %d: %w", foot.directoryOffset, err)
	}
	body, err := pageBody(page, pageDirectory)
	if err != nil {
		return nil, fmt.Errorf("directory at offset %d: %w", foot.directoryOffset, err)
	}
	dir, err := readDirectory(body, foot.directoryOffset)
	if err != nil {
		return nil, fmt.Errorf("directory at offset %d: %w", foot.directoryOffset, err)
	}
	dir.summary.Bytes = uint64(size)
	dir.summary.Directory = binary.LittleEndian.Uint32(page[len(page)-pageTailBytes:])
	return dir, nil
}

// readAt fills b; an error wraps ErrDamaged.
func readAt(f io.ReaderAt, b []byte, offset int64) error {
	n, err := f.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

// read reads, checks and if need be decompresses the i-th page of a kind. Its
// body is never changed.
func (f *file) read(kind pageKind, i int) ([]byte, error) {
	return f.readInto(make([]byte, f.dir.sections[kind].pages[i].length), kind, i)
}

// borrow is read into a buffer that is given back, after the last use of the
// body, with buffers.Put.
func (f *file) borrow(kind pageKind, i int) (body []byte, buffer *[]byte, err error) {
	buffer, ok := f.buffers.Get().(*[]byte)
	if !ok {
		buffer = new([]byte)
	}
	n := int(f.dir.sections[kind].pages[i].length)
	*buffer = slices.Grow((*buffer)[:0], n)[:n]
	body, err = f.readInto(*buffer, kind, i)
	return body, buffer, err
}

// readInto is read into a slice of the page's length.
func (f *file) readInto(page []byte, kind pageKind, i int) ([]byte, error) {
	e := &f.dir.sections[kind].pages[i]
	if err := readAt(f.f, page, e.offset); err != nil {
		return nil, f.at(kind, i, err)
	}
	body, err := pageBody(page, kind)
	if err == nil && binary.LittleEndian.Uint32(page[len(page)-pageTailBytes:]) != e.checksum {
		err = fmt.Errorf("%w: it is a sound page, but not the one that the directory names", ErrDamaged)
	}
	if err != nil {
		return nil, f.at(kind, i, err)
	}
	return body, nil
}

// at says in an error where in the file it was found.
func (f *file) at(kind pageKind, i int, err error) error {
	err = fmt.Errorf("%v page %d at offset %d: %w", kind, i, f.dir.sections[kind].pages[i].offset, err)
	if f.path != "" {
		err = fmt.Errorf("block %s: %w", f.path, err)
	}
	if f.damaged != nil && errors.Is(err, ErrDamaged) {
		f.damaged(err)
	}
	return err
}

// Retain keeps the file open for one more user, who calls Release when done.
// Only who holds the block may call it.
func (f *file) Retain() { f.refs.Add(1) }

// Release lets go of the block; the last user's Release closes the file and
// returns what closing it says.
func (f *file) Release() error {
	switch n := f.refs.Add(-1); {
	case n > 0:
		return nil
	case n < 0:
		return errors.New("block released more often than retained")
	}
	f.cache.drop(f.id)
	return f.f.Close()
}

// Summary returns what the block says of itself; its Hash is zero.
func (f *file) Summary() Summary { return f.dir.summary }

// MemoryBytes returns about how many bytes of memory the opened block holds,
// without the pages that a cache keeps of it.
func (f *file) MemoryBytes() int64 {
	const fixed = 1600 // file, directory and sections
	n := int64(fixed)
	for i := range f.dir.sections {
		s := &f.dir.sections[i]
		n += 48 * int64(cap(s.pages))
		for _, k := range s.keys {
			n += 16 + int64(len(k))
		}
	}
	if f.dir.tenants != nil {
		n += f.dir.tenants.memory()
	}
	return n
}
