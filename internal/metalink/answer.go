package metalink

import (
	"encoding/binary"
	"fmt"

	"github.com/quorate/quorate/internal/cursor"
)

// answer is what a metadata node says to a request that is the leader's.
type answer struct {
	// led tells that the node leads and has done it.
	led bool
	// leader is, when it does not lead, whoever does as far as it knows.
	leader MetaNode
	// index is what the leader had applied when it was done.
	index uint64
	// result is what the request yields, and aliases what was decoded.
	result []byte
}

const (
	answerNotLeader = 0
	answerLed       = 1
)

func encodeAnswer(a answer) (dst []byte) {
	if !a.led {
		dst = append(dst, version, answerNotLeader)
		return cursor.AppendBytes(appendNode(dst, a.leader.ID), a.leader.Address)
	}
	dst = append(dst, version, answerLed)
	dst = binary.AppendUvarint(dst, a.index)
	return append(dst, a.result...)
}

func decodeAnswer(b []byte) (answer, error) {
	c, err := begin(b, "answer")
	if err != nil {
		return answer{}, err
	}
	switch kind := c.U8(); {
	case kind == answerLed && !c.Bad:
		a := answer{led: true, index: c.Uvarint()}
		if c.Bad {
			return answer{}, fmt.Errorf("%w: the answer ends early", errDamaged)
		}
		a.result = c.B
		return a, nil
	case kind != answerNotLeader:
		return answer{}, fmt.Errorf("%w: answer of type %d", errDamaged, kind)
	}
	a := answer{leader: MetaNode{ID: readNode(c), Address: c.String()}}
	return a, c.Finish(errDamaged, "answer")
}
