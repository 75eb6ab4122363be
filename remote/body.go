package remote

import (
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/klauspost/compress/s2"

	"github.com/quorate/quorate"
)

const (
	// readStep is how much of a body is paid for before the first byte of it
	// came. Further steps double, so that a slow sender holds what it sent,
	// not what it promised.
	readStep = 16 << 10
	// keepBuffer bounds the buffers that go back to a pool.
	keepBuffer = 4 << 20
	// maxSnappyRatio bounds how far a body can decompress: snappy's longest
	// copy makes 64 bytes of 3.
	maxSnappyRatio = 22
)

// errNoBudget is the answer to a request that does not fit beside the others.
func errNoBudget() error {
	return quorate.Errorf(quorate.Unavailable, "too many bytes of other requests are in flight; try again")
}

// readBody appends a request's body to dst, taking from the lease what it
// holds. Its errors are of kind TooLarge, Invalid or Unavailable.
func readBody(dst []byte, r *http.Request, limit int64, held *lease) ([]byte, error) {
	if r.ContentLength > limit {
		return dst, errWireSize(limit)
	}
	paid := int64(0)
	for {
		if int64(len(dst)) == paid {
			step := max(readStep, paid)
			if r.ContentLength >= 0 { // and one byte to see the end
				step = min(step, max(r.ContentLength+1-paid, 1))
			}
			if !held.take(step) {
				return dst, errNoBudget()
			}
			paid += step
			dst = slices.Grow(dst, int(step))
		}
		n, err := r.Body.Read(dst[len(dst):paid])
		dst = dst[:len(dst)+n]
		if int64(len(dst)) > limit {
			return dst, errWireSize(limit)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return dst, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			// A slow network is no fault of the data: it may come again.
			return dst, quorate.Errorf(quorate.Unavailable, "body did not arrive in time: %d bytes came", len(dst))
		default:
			if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
				return dst, errWireSize(limit)
			}
			return dst, quorate.Errorf(quorate.Invalid, "body ends after %d bytes: %w", len(dst), err)
		}
	}
}

func errWireSize(limit int64) error {
	return quorate.Errorf(quorate.TooLarge, "body is over the limit of %d bytes", limit)
}

// decodeBody decompresses a snappy block into dst, whose memory it uses if it
// is large enough. The size that the block declares is judged before anything
// is allocated for it. Twice that size is taken from the lease: the parsed
// columns take about as much again.
func decodeBody(dst, packed []byte, limit int64, held *lease) ([]byte, error) {
	n, size := binary.Uvarint(packed)
	switch {
	case size <= 0:
		return dst, quorate.Errorf(quorate.Invalid, "body of %d bytes is no snappy block: its length does not decode", len(packed))
	case n > uint64(limit):
		return dst, quorate.Errorf(quorate.TooLarge, "body says it decompresses to %d bytes, over the limit of %d", n, limit)
	case n > uint64(len(packed))*maxSnappyRatio:
		return dst, quorate.Errorf(quorate.Invalid, "body of %d bytes says it decompresses to %d: snappy cannot do that", len(packed), n)
	}
	if !held.take(2 * int64(n)) {
		return dst, errNoBudget()
	}
	body, err := s2.Decode(dst[:cap(dst)], packed)
	if err != nil {
		return dst, quorate.Errorf(quorate.Invalid, "body of %d bytes is no snappy block: %w", len(packed), err)
	}
	return body, nil
}
