package simulation

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// The message of raftset that asks for a promise, and the verdict that makes
// one, as docs/format/rpc.md has them.
const (
	kindPromise     = 8
	verdictAnswered = 0
	checksumLength  = 4
)

// exaggerate makes a promise in an answer an hour long: more than its member
// keeps. Other answers are returned as they are.
func exaggerate(message, answer []byte) []byte {
	promise := binary.AppendUvarint(nil, uint64(kept/time.Millisecond))
	end := len(answer) - checksumLength
	if message[1] != kindPromise || answer[1] != verdictAnswered || !bytes.HasSuffix(answer[:end], promise) {
		return answer
	}
	b := append([]byte{}, answer[:end-len(promise)]...)
	b = binary.AppendUvarint(b, uint64(time.Hour/time.Millisecond))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// kept is for how long members promise, and keep, at raftset's default timeouts.
const kept = 900 * time.Millisecond
