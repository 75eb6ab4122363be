package raftset

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"
)

func testManifest() *manifest {
	return &manifest{
		set: testSet, replica: testReplica, genesis: [32]byte{1, 2, 3},
		index: 1000, term: 7, configurationIndex: 900,
		servers: []server{{Member: member(3)}, {Member: member(4), suffrage: raft.Nonvoter}},
		payload: []byte("the state machine's own"),
	}
}

func TestAManifestDecodesToWhatWasEncoded(t *testing.T) {
	for _, m := range []*manifest{testManifest(), (&Genesis{Set: 0, Replica: 1, Voters: []Member{member(1)}}).manifest()} {
		got, err := decodeManifest(m.encode())
		if err != nil {
			t.Fatal(err)
		}
		if len(m.payload) == 0 {
			m.payload = got.payload // nil or empty is the same
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v\nwant %+v", got, m)
		}
	}
}

func TestADamagedManifestIsFound(t *testing.T) {
	data := testManifest().encode()
	for n := range data {
		flipped := bytes.Clone(data)
		flipped[n] ^= 4
		for _, d := range [][]byte{data[:n], flipped} {
			if _, err := decodeManifest(d); !errors.Is(err, ErrDamaged) {
				t.Errorf("byte %d: %v", n, err)
			}
		}
	}
}

func TestAManifestThatMakesNoSenseIsDamage(t *testing.T) {
	for name, change := range map[string]func(*manifest){
		"index 0":                     func(m *manifest) { m.index, m.configurationIndex = 0, 0 },
		"term 0":                      func(m *manifest) { m.term = 0 },
		"a configuration after it":    func(m *manifest) { m.configurationIndex = m.index + 1 },
		"a suffrage there is none of": func(m *manifest) { m.servers[0].suffrage = 9 },
	} {
		m := testManifest()
		change(m)
		if _, err := decodeManifest(m.encode()); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(testManifest().encode())
	f.Add((&Genesis{Set: 0, Replica: 1, Voters: []Member{member(1)}}).manifest().encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := decodeManifest(fixRecord(data, manifestMagic, manifestVersion))
		if err != nil {
			return
		}
		again, err := decodeManifest(m.encode())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v decodes to %+v, %v", m, again, err)
		}
	})
}

func FuzzSegmentList(f *testing.F) {
	f.Add(encodeSegments(types.PersistentState{NextSegmentID: 3, Segments: []types.SegmentInfo{{ID: 2, BaseIndex: 5, MinIndex: 5, SizeLimit: 1 << 20}}}))
	f.Add(encodeSegments(types.PersistentState{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := decodeSegments(fixRecord(data, segmentsMagic, segmentsVersion))
		if err != nil {
			return
		}
		again, err := decodeSegments(encodeSegments(state))
		if err != nil || !reflect.DeepEqual(again, state) {
			t.Errorf("%+v decodes to %+v, %v", state, again, err)
		}
	})
}

// FuzzSegment walks arbitrary bytes as raft-wal's recovery would.
func FuzzSegment(f *testing.F) {
	f.Add(make([]byte, 100))
	f.Add(append(make([]byte, segmentHeaderLen), frameEntry, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, frameCommit, 0, 0, 0, 1, 2, 3, 4))
	f.Add(append(make([]byte, segmentHeaderLen), frameIndex, 0, 0, 0, 255, 255, 255, 255, frameCommit, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		scan, err := scanSegment(bytes.NewReader(data))
		if errors.Is(err, ErrDamaged) {
			return // a batch that is not whole stands before another
		}
		if err != nil {
			t.Fatal(err)
		}
		if scan.end > int64(len(data)) || scan.entries > len(data)/frameHeaderLen || scan.indexStart > uint64(scan.end) {
			t.Errorf("%d bytes scan to %+v", len(data), scan)
		}
		holdsBatch(data[scan.end:])
	})
}
