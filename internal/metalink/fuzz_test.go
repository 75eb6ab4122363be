package metalink

import (
	"bytes"
	"testing"

	"github.com/quorate/quorate"
)

func FuzzHello(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeHello(Hello{Node: nodeID("n1")}))
	f.Add(encodeHello(Hello{
		Node: nodeID("n1"), Cluster: testCluster, State: true, Promised: nodeID("n2"), Leader: nodeID("n3"),
		Meta: []MetaNode{{nodeID("n1"), address("n1")}, {nodeID("n2"), ""}},
	}))
	f.Add(encodeHello(Hello{Node: nodeID("n1"), Meta: make([]MetaNode, 2*maxMetaNodes)}))
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

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeAnswer(answer{led: true, index: 1 << 40, result: []byte("result")}))
	f.Add(encodeAnswer(answer{leader: MetaNode{nodeID("n1"), address("n1")}}))
	f.Add([]byte{version, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := decodeAnswer(b)
		if err != nil {
			return
		}
		if again := encodeAnswer(a); !bytes.Equal(again, b) {
			t.Errorf("%x is read as what is written %x", b, again)
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte{})
	f.Add(encodeGreeting(true))
	f.Add(encodeWatch(1 << 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		if seeks, err := decodeGreeting(b); err == nil && !bytes.Equal(encodeGreeting(seeks), b) {
			t.Errorf("%x is read as another greeting", b)
		}
		if from, err := decodeWatch(b); err == nil && !bytes.Equal(encodeWatch(from), b) {
			t.Errorf("%x is read as another watch", b)
		}
	})
}

func TestAnotherVersionIsRefused(t *testing.T) {
	b := encodeHello(Hello{Node: quorate.NodeID{Name: "n1"}})
	b[0] = version + 1
	if _, err := decodeHello(b); err == nil {
		t.Error("hello: want an error, got none")
	}
	if _, err := decodeAnswer([]byte{version + 1, 1, 0}); err == nil {
		t.Error("answer: want an error, got none")
	}
}
