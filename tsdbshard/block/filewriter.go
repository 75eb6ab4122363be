package block

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
)

// fileWriter writes the pages of a file, one after the other, and remembers
// what the directory is to say of them. Its first error sticks.
type fileWriter struct {
	w         io.Writer
	sha       hash.Hash
	offset    int64
	directory directoryWriter
	page      []byte // scratch
	err       error
}

func newFileWriter(w io.Writer, h *header) *fileWriter {
	f := &fileWriter{w: w, sha: sha256.New()}
	f.writePage(pageHeader, headerBody(h), &pageEntry{}, "", false)
	return f
}

// headerBody is the body of the first page. It is for who looks at the file's
// first bytes; readers go by what the directory repeats.
func headerBody(h *header) []byte { return h.append(append([]byte(magic), version)) }

// fail makes err the writer's error if it has none yet, and returns the one it has.
func (f *fileWriter) fail(err error) error {
	if f.err == nil {
		f.err = err
	}
	return f.err
}

func (f *fileWriter) write(b []byte) {
	if f.err != nil {
		return
	}
	f.sha.Write(b)
	n, err := f.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		f.err = fmt.Errorf("write block at offset %d: %w", f.offset, err)
		return
	}
	f.offset += int64(len(b))
}

// writePage writes a page; of e it fills in length and checksum.
func (f *fileWriter) writePage(kind pageKind, body []byte, e *pageEntry, key string, compress bool) {
	if f.err != nil {
		return
	}
	page, err := appendPage(f.page[:0], kind, body, compress)
	if err != nil {
		f.err = err
		return
	}
	f.page = page
	e.length, e.checksum = uint32(len(page)), binary.LittleEndian.Uint32(page[len(page)-pageTailBytes:])
	f.directory.add(kind, e, key)
	f.write(page)
}

// finish writes directory and footer, and completes the summary.
func (f *fileWriter) finish(h *header, s *Summary) error {
	if f.err != nil {
		return f.err
	}
	page, err := appendPage(f.page[:0], pageDirectory, f.directory.body(h, s), true)
	if err != nil {
		return f.fail(err)
	}
	// The directory's own checksum, which stands at its end, covers those of all
	// pages. A checksum over bytes that end in theirs would be a constant.
	s.Directory = binary.LittleEndian.Uint32(page[len(page)-pageTailBytes:])
	foot := footer{directoryOffset: f.offset, directoryLength: uint32(len(page))}
	page = foot.append(page)
	f.write(page)
	s.Bytes = uint64(f.offset)
	f.sha.Sum(s.Hash[:0])
	return f.err
}
