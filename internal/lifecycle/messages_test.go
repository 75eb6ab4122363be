package lifecycle

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// The bytes of docs/format/rpc.md. They change only with their version.
func TestMessagesHaveTheirBytes(t *testing.T) {
	for says, tc := range map[string]struct {
		got  []byte
		want string
	}{
		"a request about a replica": {replicaRequest{Set: 300, Replica: 5}.encode(), "01ac0205"},
		"a request for a file":      {fileRequest{Set: 7, Name: "a.b", Offset: 128}.encode(), "010703612e628001"},
		"the head of a file":        {fileHead{Bytes: 1 << 20}.encode(), "01808040"},
		"an answer: it is open":     {readyAnswer{Open: true}.encode(), "0101"},
		"an answer: it is not":      {readyAnswer{}.encode(), "0100"},
		"an answer with a seed":     {seedAnswer{Seed: []byte{9, 8}}.encode(), "01020908"},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s is %s, want %s", says, got, tc.want)
		}
	}
}

func TestMessagesOfAnotherVersionAreRefused(t *testing.T) {
	b := replicaRequest{Set: 1}.encode()
	b[0]++
	if _, err := decodeReplicaRequest(b); !errors.Is(err, errMessage) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v", err)
	}
	long := fileRequest{Set: 1, Name: strings.Repeat("x", maxNameBytes+1)}
	if _, err := decodeFileRequest(long.encode()); !errors.Is(err, errMessage) {
		t.Errorf("a name of %d bytes gives %v", len(long.Name), err)
	}
}

// FuzzMessages decodes arbitrary bytes as each message: it fails, or the message
// encodes to the same bytes.
func FuzzMessages(f *testing.F) {
	f.Add(replicaRequest{Set: 300, Replica: 5}.encode())
	f.Add(fileRequest{Set: 7, Name: "a.b", Offset: 128}.encode())
	f.Add(fileHead{Bytes: 1 << 20}.encode())
	f.Add(readyAnswer{Open: true}.encode())
	f.Add(seedAnswer{Seed: []byte{9, 8}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(again []byte, err error) {
			switch {
			case err != nil && !errors.Is(err, errMessage):
				t.Errorf("%v is no errMessage", err)
			case err == nil && !bytes.Equal(again, b):
				t.Errorf("%x encodes as %x", b, again)
			}
		}
		replica, err := decodeReplicaRequest(b)
		check(replica.encode(), err)
		file, err := decodeFileRequest(b)
		check(file.encode(), err)
		head, err := decodeFileHead(b)
		check(head.encode(), err)
		ready, err := decodeReadyAnswer(b)
		check(ready.encode(), err)
		seed, err := decodeSeedAnswer(b)
		check(seed.encode(), err)
	})
}
