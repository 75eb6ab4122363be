package lifecycle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/raftset"
	"github.com/quorate/quorate/tsdbshard"
)

// source is a node that sends one file, in pieces, as a test has it.
type source struct {
	data []byte
	// size is what it says that the file has; 0 is the truth.
	size uint64
	// cutAfter ends the stream after so many pieces; 0 is never.
	cutAfter int
	// hang sends nothing after the head.
	hang    bool
	offsets []uint64 // that were asked for
}

const testPiece = 1000

// sources are the other nodes of a test, by name.
type sources map[string]*source

func nodeNamed(name string) quorate.NodeID { return quorate.NodeID{Name: name} }

func (s sources) Call(context.Context, quorate.NodeID, string, []byte) ([]byte, error) {
	return nil, quorate.Errorf(quorate.Unavailable, "it answers nothing")
}

func (s sources) Stream(ctx context.Context, to quorate.NodeID, method string, req []byte) (func() ([]byte, error), error) {
	r, err := decodeFileRequest(req)
	if err != nil || method != methodFile {
		return nil, errors.Join(err, errMessage)
	}
	node := s[to.Name]
	if node == nil {
		return nil, quorate.Errorf(quorate.Unavailable, "node %v is down", to)
	}
	node.offsets = append(node.offsets, r.Offset)
	size := node.size
	if size == 0 {
		size = uint64(len(node.data))
	}
	messages := [][]byte{fileHead{Bytes: size}.encode()}
	for piece := range slices.Chunk(node.data[r.Offset:], testPiece) {
		if node.cutAfter > 0 && len(messages) > node.cutAfter {
			break
		}
		messages = append(messages, piece)
	}
	return func() ([]byte, error) {
		if len(messages) == 0 {
			return nil, io.EOF
		}
		if node.hang && len(messages[0]) == testPiece {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		next := messages[0]
		messages = messages[1:]
		return next, nil
	}, nil
}

// fetchRig is a manager that fetches one file.
type fetchRig struct {
	*Manager

	nodes sources
	file  tsdbshard.FileInfo
	data  []byte
	into  tsdbshard.Config
}

func newFetchRig(t *testing.T, at func(moment) error) *fetchRig {
	t.Helper()
	r := &fetchRig{nodes: sources{}, data: make([]byte, 10*testPiece+17), into: tsdbshard.Config{Dir: t.TempDir(), Set: 5}}
	for i := range r.data {
		r.data[i] = byte(i * i / 7)
	}
	r.file = tsdbshard.SealedFileInfo(wire.SealedFile{Hash: sha256.Sum256(r.data), Bytes: uint64(len(r.data))})
	r.Manager = bareManager()
	cfg, err := Config{Peers: r.nodes, moment: at, DataDir: "-", Host: new(raftset.Host), Client: emptyClient(t), Replicas: noReplicas()}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r.cfg = cfg
	r.fetchSlots = make(chan struct{}, 1)
	r.Manager.fetching = newThrottle(cfg.FetchBytesPerSecond)
	return r
}

func (r *fetchRig) wantFetched(t *testing.T) {
	t.Helper()
	if err := tsdbshard.AdoptFile(r.into, r.file); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(r.into.Dir, r.file.Name)); err != nil || !bytes.Equal(got, r.data) {
		t.Errorf("%d bytes were fetched, %v; want the %d of the file", len(got), err, len(r.data))
	}
}

func (r *fetchRig) wantOffsets(t *testing.T, node string, want ...uint64) {
	t.Helper()
	if got := r.nodes[node].offsets; !slices.Equal(got, want) {
		t.Errorf("node %s was asked from %v on, want %v", node, got, want)
	}
}

func TestAFetchGoesOnAtAnotherNodeWhereOneHasStopped(t *testing.T) {
	r := newFetchRig(t, nil)
	r.nodes["b"] = &source{data: r.data, cutAfter: 3}
	r.nodes["c"] = &source{data: r.data}
	from := []quorate.NodeID{nodeNamed("a"), nodeNamed("b"), nodeNamed("c")}
	if err := r.fetchFile(t.Context(), r.into, r.file, from); err != nil {
		t.Fatal(err)
	}
	r.wantFetched(t)
	r.wantOffsets(t, "b", 0)
	r.wantOffsets(t, "c", 3*testPiece)
	if got := testutil.ToFloat64(r.metrics.fetchFailures.WithLabelValues("unavailable")); got != 2 {
		t.Errorf("%v failures were counted, want those of a and b", got)
	}
	if got := testutil.ToFloat64(r.metrics.fetchedBytes); got != float64(len(r.data)) {
		t.Errorf("%v bytes were fetched, want each once", got)
	}
}

func TestAWrongByteIsFoundAndTheFileFetchedFromAnotherNode(t *testing.T) {
	for says, tc := range map[string]struct {
		bad    source
		before int // bytes that were here
		want   []uint64
	}{
		"in a whole file":   {source{}, 0, []uint64{0}},
		"behind good bytes": {source{}, 2 * testPiece, []uint64{2 * testPiece, 0}},
	} {
		t.Run(says, func(t *testing.T) {
			r := newFetchRig(t, nil)
			bad := slices.Clone(r.data)
			bad[len(bad)-5] ^= 1
			tc.bad.data = bad
			r.nodes["bad"] = &tc.bad
			r.nodes["good"] = &source{data: r.data}
			if tc.before > 0 {
				part, err := tsdbshard.ReceiveFile(r.into, r.file)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := part.Write(r.data[:tc.before]); err != nil {
					t.Fatal(err)
				}
				if err := part.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := r.fetchFile(t.Context(), r.into, r.file, []quorate.NodeID{nodeNamed("bad"), nodeNamed("good")}); err != nil {
				t.Fatal(err)
			}
			r.wantFetched(t)
			r.wantOffsets(t, "bad", tc.want...)
			r.wantOffsets(t, "good", 0)
			if got := testutil.ToFloat64(r.metrics.fetchFailures.WithLabelValues("damaged")); got != float64(len(tc.want)) {
				t.Errorf("%v damages were counted, want %d", got, len(tc.want))
			}
		})
	}
}

// What was here before may be what is wrong; then the same node gives it whole.
func TestAWrongByteOfAnEarlierFetchIsFetchedAgain(t *testing.T) {
	r := newFetchRig(t, nil)
	bad := slices.Clone(r.data)
	bad[0] ^= 1
	r.nodes["bad"] = &source{data: bad, cutAfter: 4}
	r.nodes["good"] = &source{data: r.data}
	if err := r.fetchFile(t.Context(), r.into, r.file, []quorate.NodeID{nodeNamed("bad"), nodeNamed("good")}); err != nil {
		t.Fatal(err)
	}
	r.wantFetched(t)
	r.wantOffsets(t, "good", 4*testPiece, 0)
}

func TestAFileOfAnotherLengthIsNotTaken(t *testing.T) {
	r := newFetchRig(t, nil)
	r.nodes["long"] = &source{data: append(slices.Clone(r.data), 1)}
	r.nodes["liar"] = &source{data: append(slices.Clone(r.data), 1), size: uint64(len(r.data))}
	err := r.fetchFile(t.Context(), r.into, r.file, []quorate.NodeID{nodeNamed("long"), nodeNamed("liar")})
	if !errors.Is(err, tsdbshard.ErrDamaged) {
		t.Errorf("got %v", err)
	}
	if err := tsdbshard.AdoptFile(r.into, r.file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func TestAFetchThatIsKilledGoesOnAfterARestart(t *testing.T) {
	pieces := 0
	r := newFetchRig(t, func(at moment) error {
		if pieces++; at == momentPiece && pieces > 4 {
			return errCrash
		}
		return nil
	})
	r.nodes["a"] = &source{data: r.data}
	from := []quorate.NodeID{nodeNamed("a")}
	if err := r.fetchFile(t.Context(), r.into, r.file, from); !errors.Is(err, errCrash) {
		t.Fatalf("got %v, want a crash", err)
	}
	next := newFetchRig(t, nil)
	next.into, next.nodes["a"] = r.into, r.nodes["a"]
	if err := next.fetchFile(t.Context(), next.into, next.file, from); err != nil {
		t.Fatal(err)
	}
	next.wantFetched(t)
	next.wantOffsets(t, "a", 0, 5*testPiece)
}

func TestANodeThatSendsNothingIsGivenUp(t *testing.T) {
	r := newFetchRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		r.nodes["hung"] = &source{data: r.data, hang: true}
		r.nodes["b"] = &source{data: r.data}
		start := time.Now()
		if err := r.fetchFile(t.Context(), r.into, r.file, []quorate.NodeID{nodeNamed("hung"), nodeNamed("b")}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < stallAfter || took > 2*stallAfter {
			t.Errorf("it took %v", took)
		}
	})
	r.wantFetched(t)
}

func TestAFetchIsThrottled(t *testing.T) {
	r := newFetchRig(t, nil)
	synctest.Test(t, func(t *testing.T) {
		r.Manager.fetching = newThrottle(1000)
		r.Manager.fetching.AllowN(time.Now(), pieceBytes) // what may be taken at once
		r.nodes["a"] = &source{data: r.data}
		start := time.Now()
		if err := r.fetchFile(t.Context(), r.into, r.file, []quorate.NodeID{nodeNamed("a")}); err != nil {
			t.Fatal(err)
		}
		want := time.Duration(len(r.data)) * time.Millisecond
		if took := time.Since(start).Round(time.Second); took < want-time.Second || took > want+time.Second {
			t.Errorf("%d bytes took %v, want %v", len(r.data), took, want)
		}
	})
	r.wantFetched(t)
}

func TestFetchesWaitForRoom(t *testing.T) {
	r := newFetchRig(t, nil)
	r.nodes["a"] = &source{data: r.data}
	r.fetchSlots <- struct{}{}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.fetchFile(canceled, r.into, r.file, []quorate.NodeID{nodeNamed("a")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	r.wantOffsets(t, "a")
}
