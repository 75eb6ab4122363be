package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/quorate/quorate/internal/cursor"
)

// frameVersion is the first byte of every frame of the Messages stream.
const frameVersion = 1

var errFrame = errors.New("damaged frame")

// appendHead appends what stands before a message in a frame: its number,
// which its answer repeats, and its length.
func appendHead(dst []byte, id uint64, length int) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, id), uint64(length))
}

// maxHead is how many bytes appendHead appends at most.
const maxHead = 2 * binary.MaxVarintLen64

// frameMessages walks a frame's messages, which alias it. The last element has
// the error, if there is one.
func frameMessages(frame []byte) iter.Seq2[numbered, error] {
	return func(yield func(numbered, error) bool) {
		c := cursor.Cursor{B: frame, Shortest: true}
		if v := c.U8(); !c.Bad && v != frameVersion {
			yield(numbered{}, fmt.Errorf("frame of version %d is not known; this binary knows %d", v, frameVersion))
			return
		}
		for !c.Bad && len(c.B) > 0 {
			m := numbered{id: c.Uvarint(), body: c.Bytes()}
			if c.Bad {
				break
			}
			if !yield(m, nil) {
				return
			}
		}
		if err := c.Finish(errFrame, "frame"); err != nil {
			yield(numbered{}, err)
		}
	}
}

// numbered is a message, or an answer, with its number.
type numbered struct {
	id   uint64
	body []byte
}
