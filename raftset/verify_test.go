package raftset

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft-wal/types"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

func verify(t *testing.T, dir string) Report {
	t.Helper()
	r, err := Verify(t.Context(), replicaPath(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// filled returns the host directory of a replica with a flushed part, a log of
// several segments behind it, and the lines of both.
func filled(t *testing.T) (dir string, flushed, logged []string) {
	t.Helper()
	dir = t.TempDir()
	h, g, _ := start(t, HostConfig{Dir: dir, SegmentBytes: minSegmentBytes})
	flushed = proposeAll(t, g, "flushed", 3)
	if err := g.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	logged = proposeAll(t, g, noise(1, 4000), 60)
	closeGroup(t, g)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(glob(t, replicaPath(dir, logDir, "*.wal"))); n < 3 {
		t.Fatalf("the log has %d segments: too few for the test to mean something", n)
	}
	return dir, flushed, logged
}

func TestVerifyFindsNothingWrongWithASoundReplica(t *testing.T) {
	dir, _, logged := filled(t)
	before := fingerprint(t, dir)
	var decoder wire.Decoder
	var visited []string
	r, err := Verify(t.Context(), replicaPath(dir), func(e quorate.LogEntry) error {
		entry, err := decoder.Decode(e.Data)
		for _, c := range entry.Commands {
			visited = append(visited, string(c))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 0 || len(r.Notes) != 0 {
		t.Errorf("problems %v, notes %v", r.Problems, r.Notes)
	}
	if !r.Formed || r.Set != testSet || r.Replica != testReplica || r.Index == 0 || r.Term == 0 || len(r.Payload) == 0 {
		t.Errorf("the report is %+v", r)
	}
	if r.FirstIndex == 0 || r.FirstIndex > r.Index+1 || r.LastIndex < r.Index+uint64(len(logged)) || r.Entries != r.LastIndex-r.FirstIndex+1 || r.LogBytes < 60*4000 {
		t.Errorf("the log is [%d, %d], %d entries, %d bytes, behind a manifest at %d", r.FirstIndex, r.LastIndex, r.Entries, r.LogBytes, r.Index)
	}
	if !slices.Equal(visited, logged) {
		t.Errorf("%d commands were visited, want the %d past the manifest", len(visited), len(logged))
	}
	if fingerprint(t, dir) != before {
		t.Error("Verify changed the directory")
	}
}

// A directory as a kill leaves it is sound, whatever its low-water mark says.
func TestVerifyFindsNothingWrongAfterAKill(t *testing.T) {
	dir := t.TempDir()
	_, g, _ := start(t, HostConfig{Dir: dir, SegmentBytes: minSegmentBytes})
	proposeAll(t, g, noise(1, 4000), 30)
	if r := verify(t, crash(t, dir)); len(r.Problems) != 0 || r.Entries < 30 {
		t.Errorf("%d entries, problems %v", r.Entries, r.Problems)
	}
}

// Every byte that Verify answers for, flipped over the whole of each file: the
// problem names the file, or a note does where the bytes are no one's.
func TestVerifyFindsEveryFlippedBit(t *testing.T) {
	dir, _, _ := filled(t)
	found, noted := 0, 0
	err := filepath.WalkDir(replicaPath(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		whole, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(replicaPath(dir), path)
		if err != nil {
			return err
		}
		const flips = 97
		for i := range min(flips, len(whole)) {
			offset := int64(i * len(whole) / flips)
			if len(whole) < flips {
				offset = int64(i)
			}
			flipBit(t, path, offset)
			r := verify(t, dir)
			switch {
			case slices.ContainsFunc(r.Problems, func(f Finding) bool { return f.File == name && errors.Is(f.What, ErrDamaged) }):
				found++
			case len(r.Problems) == 0 && slices.ContainsFunc(r.Notes, func(f Finding) bool { return f.File == name }):
				noted++
			// A sealed segment's zeros behind its end are read by nobody.
			case strings.HasSuffix(name, ".wal") && whole[offset] == 0 && len(r.Problems) == 0:
			default:
				t.Errorf("%s, offset %d: problems %v, notes %v", name, offset, r.Problems, r.Notes)
			}
			if err := os.WriteFile(path, whole, 0o600); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d flips were found, %d noted", found, noted)
	if found < 300 {
		t.Error("too few flips hit anything for the test to mean something")
	}
}

func TestVerifyNotesATornWrite(t *testing.T) {
	dir, _, _ := filled(t)
	paths := glob(t, replicaPath(dir, logDir, "*.wal"))
	path := paths[len(paths)-1]
	end := scanSegmentFile(t, path).end
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn := append([]byte{frameEntry, 0, 0, 0, 100, 0, 0, 0}, "twenty bytes, torn.."...)
	if _, err := f.WriteAt(torn, end); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	r := verify(t, dir)
	if len(r.Problems) != 0 || len(r.Notes) != 1 || r.Notes[0].Offset != end || r.Notes[0].File != filepath.Join(logDir, filepath.Base(path)) {
		t.Errorf("problems %v, notes %v; want one note at offset %d", r.Problems, r.Notes, end)
	}
}

func TestVerifyNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(t *testing.T, dir string)
		file string // that a problem must name
		says string
	}{
		"a log that lost its end": {func(t *testing.T, dir string) {
			paths := glob(t, replicaPath(dir, logDir, "*.wal"))
			path := paths[len(paths)-1]
			if err := os.Truncate(path, scanSegmentFile(t, path).end-frameHeaderLen); err != nil {
				t.Fatal(err)
			}
		}, logDir, "below the low-water mark"},
		"a missing segment": {func(t *testing.T, dir string) {
			if err := os.Remove(glob(t, replicaPath(dir, logDir, "*.wal"))[0]); err != nil {
				t.Fatal(err)
			}
		}, "", "the segment is missing"},
		"a missing list of segments": {func(t *testing.T, dir string) {
			if err := os.Remove(replicaPath(dir, logDir, segmentsFile)); err != nil {
				t.Fatal(err)
			}
		}, filepath.Join(logDir, segmentsFile), "is missing"},
		"a missing manifest": {func(t *testing.T, dir string) {
			if err := os.Remove(replicaPath(dir, manifestFile)); err != nil {
				t.Fatal(err)
			}
		}, manifestFile, "is missing"},
		"another replica's vote": {func(t *testing.T, dir string) {
			b := ballot{term: 9}
			if err := os.WriteFile(replicaPath(dir, voteFile), b.encode(testSet+1, testReplica), 0o600); err != nil {
				t.Fatal(err)
			}
		}, voteFile, "is that of set"},
		"a vote older than the log": {func(t *testing.T, dir string) {
			b := ballot{term: genesisTerm}
			if err := os.WriteFile(replicaPath(dir, voteFile), b.encode(testSet, testReplica), 0o600); err != nil {
				t.Fatal(err)
			}
		}, voteFile, "behind manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _, _ := filled(t)
			c.harm(t, dir)
			r := verify(t, dir)
			if !slices.ContainsFunc(r.Problems, func(f Finding) bool {
				return strings.HasPrefix(f.File, c.file) && strings.Contains(f.What.Error(), c.says)
			}) {
				t.Errorf("the problems are %v; want %q of %s", r.Problems, c.says, c.file)
			}
		})
	}
}

func TestVerifyOfWhatIsNoReplica(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(replicaPath(dir, logDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, dir); r.Formed || len(r.Problems) != 0 || len(r.Notes) != 1 {
		t.Errorf("of a directory in which nothing was formed: %+v", r)
	}
	if _, err := Verify(t.Context(), filepath.Join(dir, "lost+found"), nil); err == nil {
		t.Error("a directory that has no replica's name passes")
	}
	if _, err := Verify(t.Context(), filepath.Join(dir, "8-9"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of a directory that is not there: %v", err)
	}
}

func TestVerifySaysWhyAReplicaWasTakenOutOfService(t *testing.T) {
	dir, _, _ := filled(t)
	if err := quarantine(replicaPath(dir), errors.New("it fell off the table")); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(t.Context(), replicaPath(dir)+quarantineSuffix, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What.Error(), "it fell off the table") {
		t.Errorf("the problems are %v", r.Problems)
	}
}

func TestVerifyReportsWhatAVisitRefuses(t *testing.T) {
	dir, _, _ := filled(t)
	n := 0
	r, err := Verify(t.Context(), replicaPath(dir), func(quorate.LogEntry) error {
		n++
		return errors.New("not to my taste")
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != 1 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What.Error(), "not to my taste") {
		t.Errorf("%d visits, problems %v", n, r.Problems)
	}
}

// fingerprint tells directories apart by their files' names, times and bytes.
func fingerprint(t *testing.T, dir string) [sha256.Size]byte {
	t.Helper()
	sum := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var data []byte
		if !d.IsDir() {
			if data, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		_, err = fmt.Fprintf(sum, "%s %v %x\n", path, info.ModTime(), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// FuzzVerifySegment checks arbitrary bytes as a segment, the last and another.
func FuzzVerifySegment(f *testing.F) {
	header := func(frames ...byte) []byte {
		b := make([]byte, segmentHeaderLen, segmentHeaderLen+len(frames))
		binary.LittleEndian.PutUint64(b, segmentMagic)
		b[8] = 1 // its first entry
		return append(b, frames...)
	}
	f.Add([]byte{})
	f.Add(header(frameEntry, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, frameCommit, 0, 0, 0, 1, 2, 3, 4))
	f.Add(header(frameEntry, 0, 0, 0, 255, 255, 255, 255))
	f.Add(header(frameIndex, 0, 0, 0, 4, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, frameCommit, 0, 0, 0, 0, 0, 0, 0))
	path := filepath.Join(f.TempDir(), "segment")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, sealed := range []bool{false, true} {
			file, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			v := &verification{report: Report{Set: testSet}}
			s := segmentCheck{verification: v, info: types.SegmentInfo{BaseIndex: 1, MinIndex: 1, MaxIndex: 1, IndexStart: 40}, file: "segment", sealed: sealed}
			if err := s.check(t.Context(), file); err != nil {
				t.Errorf("sealed %t: %v", sealed, err)
			}
			if sealed && v.report.Entries == 0 && len(v.report.Problems) == 0 {
				t.Error("a sealed segment without entries passes")
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
