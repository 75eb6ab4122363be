package router

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/prometheus/prometheus/util/annotations"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// frameBytes is how much a frame of a stream has before it is sent. The last
// element may reach over it.
const frameBytes = 1 << 20

// The types of frames.
const (
	frameData = 1
	// frameEnd is the last one. A stream that ends without it was cut off,
	// whatever its transport says.
	frameEnd = 2
)

// frameWriter gathers elements of a stream in frames.
type frameWriter struct {
	send  func([]byte) error
	frame []byte // begun, if it is not empty
	count uint64 // elements so far
}

// begin returns the frame under way, for an element to be appended to.
func (w *frameWriter) begin() []byte {
	if len(w.frame) == 0 {
		w.frame = append(w.frame, messageVersion, frameData)
	}
	return w.frame
}

// flush sends the frame under way, if there is one.
func (w *frameWriter) flush() error {
	if len(w.frame) == 0 {
		return nil
	}
	err := w.send(w.frame)
	w.frame = w.frame[:0]
	return err
}

// element ends an element that was appended to what begin returned.
func (w *frameWriter) element(frame []byte) error {
	w.frame = frame
	w.count++
	if len(w.frame) < frameBytes {
		return nil
	}
	return w.flush()
}

// end sends what is left, and that this is all there is.
func (w *frameWriter) end(warnings annotations.Annotations) error {
	if err := w.flush(); err != nil {
		return err
	}
	return w.send(frameEndOf(w.count, warnings.AsErrors()))
}

func frameEndOf(count uint64, warnings []error) []byte {
	b := binary.AppendUvarint([]byte{messageVersion, frameEnd}, count)
	b = binary.AppendUvarint(b, uint64(len(warnings)))
	for _, w := range warnings {
		b = cursor.AppendBytes(b, w.Error())
	}
	return b
}

// remoteWarning is a warning of another node.
type remoteWarning string

// Error prints it.
func (w remoteWarning) Error() string { return string(w) }

// decodeFrame returns the elements of a data frame, or what the end says.
func decodeFrame(b []byte) (elements []byte, end bool, count uint64, warnings annotations.Annotations, err error) {
	c, err := openMessage(b)
	if err != nil {
		return nil, false, 0, nil, err
	}
	switch c.U8() {
	case frameData:
		if len(c.B) == 0 {
			c.Fail()
			break
		}
		return c.B, false, 0, nil, nil
	case frameEnd:
		count = c.Uvarint()
		for _, text := range readStrings(c) {
			warnings.Add(remoteWarning(text))
		}
		return nil, true, count, warnings, c.Finish(errMessage, "end of a stream")
	default:
		c.Fail()
	}
	return nil, false, 0, nil, c.Finish(errMessage, "frame")
}

// frameReader reads the frames of a stream.
type frameReader struct {
	ctx  context.Context //nolint:containedctx // of the stream, to tell why it ended
	recv func() ([]byte, error)
	from quorate.NodeID
	// take is told how long each frame is, and may refuse it.
	take func(bytes int) error

	count    uint64 // elements, by whoever reads them
	warnings annotations.Annotations
}

// next returns the elements of the next frame, nil at the end of the stream.
func (r *frameReader) next() ([]byte, error) {
	message, err := r.recv()
	switch {
	case err == nil:
	case r.ctx.Err() != nil:
		return nil, context.Cause(r.ctx) // as a reader on this node would say it
	case errors.Is(err, io.EOF):
		return nil, quorate.Errorf(quorate.Unavailable, "node %s: the stream was cut off: %w", r.from.Name, io.ErrUnexpectedEOF)
	default:
		return nil, err
	}
	if err := r.take(len(message)); err != nil {
		return nil, err
	}
	elements, end, count, warnings, err := decodeFrame(message)
	if err == nil && end && count != r.count {
		err = fmt.Errorf("%w: %d elements of %d", errMessage, r.count, count)
	}
	if err != nil {
		return nil, quorate.Errorf(quorate.Internal, "node %s: %w", r.from.Name, err)
	}
	r.warnings = warnings
	return elements, nil
}
