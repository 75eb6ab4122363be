package peer

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate"
)

func FuzzFrame(f *testing.F) {
	head := func(id uint64, body string) []byte { return append(appendHead(nil, id, len(body)), body...) }
	f.Add([]byte{})
	f.Add([]byte{frameVersion})
	f.Add(append([]byte{frameVersion}, head(1, "message")...))
	f.Add(append(append([]byte{frameVersion}, head(1<<60, "")...), head(2, strings.Repeat("x", 300))...))
	f.Add(append([]byte{frameVersion}, 1, 0xff, 0xff, 0xff, 0xff, 0x0f))
	f.Add([]byte{2, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		again := []byte{frameVersion}
		size := 0
		for m, err := range frameMessages(b) {
			if err != nil {
				if m.body != nil {
					t.Error("an error came with a message")
				}
				return
			}
			if size += len(m.body); size > len(b) {
				t.Fatalf("messages of %d bytes in a frame of %d", size, len(b))
			}
			again = append(appendHead(again, m.id, len(m.body)), m.body...)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x is read as what is written %x", b, again)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeHello(hello{from: nodeID("n1")}))
	f.Add(encodeHello(hello{cluster: testCluster, from: nodeID("n1"), to: nodeID("n2")}))
	f.Add(encodeHello(hello{from: nodeID(strings.Repeat("n", 2000))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHello(b)
		if err != nil {
			return
		}
		if again := encodeHello(h); !bytes.Equal(again, b) {
			t.Errorf("%x is read as what is written %x", b, again)
		}
	})
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte{})
	f.Add(append(appendRequest(nil, "set.write"), "body"...))
	f.Add([]byte{1, 200, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		method, body, err := decodeRequest(b)
		if err != nil {
			return
		}
		if again := append(appendRequest(nil, method), body...); !bytes.Equal(again, b) {
			t.Errorf("%x is read as what is written %x", b, again)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{replyData, 1, 2, 3})
	f.Add(encodeError(replyError, &quorate.Error{Kind: quorate.Limited, Err: errors.New("slow down"), RetryAfter: time.Minute}))
	f.Add(encodeError(replyStarting, ErrStarting))
	f.Add([]byte{replyError, 99, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := decodeReply(b, "n1")
		if err == nil && !bytes.Equal(body, b[1:]) {
			t.Errorf("%x is read as %x", b, body)
		}
		var kinded *quorate.Error
		if err != nil && (!errors.As(err, &kinded) || kinded.Kind > quorate.Unavailable || kinded.RetryAfter < 0) {
			t.Errorf("%x is read as the error %#v", b, err)
		}
	})
}

func TestBytesOfAnotherVersionAreRefused(t *testing.T) {
	h := encodeHello(hello{from: nodeID("n1")})
	h[0] = 2
	if _, err := decodeHello(h); !errors.Is(err, errVersion) {
		t.Errorf("handshake: got %v", err)
	}
	if _, _, err := decodeRequest([]byte{2, 0}); err == nil {
		t.Error("request: want an error, got none")
	}
	for m, err := range frameMessages([]byte{2, 1, 0}) {
		if err == nil {
			t.Errorf("frame: got message %v", m)
		}
	}
	if _, err := decodeReply([]byte{0x20}, "n1"); quorate.KindOf(err) != quorate.Unavailable {
		t.Errorf("reply: got %v", err)
	}
}

func TestALongErrorTextIsCut(t *testing.T) {
	b := encodeError(replyError, errors.New(strings.Repeat("x", 2*maxErrorText)))
	if len(b) > maxErrorText+16 {
		t.Errorf("the reply has %d bytes", len(b))
	}
}
