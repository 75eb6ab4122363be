package tsdbshard

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/faultfs"
	"github.com/quorate/quorate/internal/wire"
)

// send gives the files of a payload that a replica lacks from another's directory.
func send(t *testing.T, from string, to Config, payload []byte) (sent []string) {
	t.Helper()
	missing, err := Stage(to, payload)
	require.NoError(t, err)
	for _, f := range missing {
		data, err := os.ReadFile(filepath.Join(from, f.Name))
		require.NoError(t, err)
		r, err := ReceiveFile(to, f)
		require.NoError(t, err)
		_, err = r.Write(data[r.Offset():])
		require.NoError(t, err)
		require.NoError(t, r.Finish(t.Context()))
		sent = append(sent, f.Name)
	}
	return sent
}

func TestAReplicaTakesTheManifestOfAnotherWithItsFiles(t *testing.T) {
	one := newRig(t, t.TempDir(), openRange(0, 1000))
	one.write(everything(1))
	one.flush()
	one.write(oneFloat(2, 2))
	two := newRig(t, t.TempDir(), openRange(0, 1000))
	for _, e := range one.log {
		two.index = e.Index - 1
		_, err := two.shard.ApplyBatch([]quorate.LogEntry{e})
		require.NoError(t, err)
		two.index, two.log, two.results = e.Index, append(two.log, e), append(two.results, nil)
	}
	two.flush() // at another index
	one.flush()
	want := one.dumpNow(1)

	cfg := Config{Dir: two.dir, Set: testSet}
	held := two.view()
	defer held.Close()
	before := fileNames(t, two.dir)
	require.Equal(t, []string{deltaOf(t, one.dir, 1, 2), deltaOf(t, one.dir, 2, 3)}, send(t, one.dir, cfg, one.payload))
	require.Equal(t, want, two.dumpNow(1))
	require.NoError(t, two.shard.Restore(t.Context(), one.payload, one.manifest))
	require.Equal(t, want, two.dumpNow(1))
	require.Equal(t, want, dumpView(t, held, 1))
	require.Empty(t, fileNames(t, filepath.Join(two.dir, incomingDir)))
	require.NotEqual(t, before, fileNames(t, two.dir))

	// Of what it has, nothing travels again.
	one.write(everything(500))
	one.flush()
	require.Len(t, send(t, one.dir, cfg, one.payload), 1)
	require.NoError(t, two.shard.Restore(t.Context(), one.payload, one.manifest))
	require.Equal(t, one.dumpNow(1), two.dumpNow(1))
	require.NoError(t, two.shard.Close())
	two.payload, two.manifest = one.payload, one.manifest
	two.open()
	require.Equal(t, one.dumpNow(1), two.dumpNow(1))
}

// What a manifest to come names is kept when it is merged away before it comes.
func TestAStagedFileOutlivesItsMerge(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	r.write(everything(1))
	r.flush()
	payload, manifest, want := r.payload, r.manifest, r.dumpNow(1)
	cfg := Config{Dir: r.dir, Set: testSet}
	missing, err := Stage(cfg, payload)
	require.NoError(t, err)
	require.Empty(t, missing)
	name := deltaOf(t, r.dir, 1, 2)
	r.write(everything(2))
	r.shard.RequestCompaction()
	r.flush()
	require.NoFileExists(t, filepath.Join(r.dir, name))
	require.NoError(t, r.shard.Restore(t.Context(), payload, manifest))
	require.Equal(t, want, r.dumpNow(1))
	require.FileExists(t, filepath.Join(r.dir, name))
}

// A file that only a view keeps stays when a manifest names it again.
func TestAFileThatIsNamedAgainIsNotRemovedWithItsLastView(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	r.write(everything(1))
	r.flush()
	payload, manifest, want := r.payload, r.manifest, r.dumpNow(1)
	held := r.view()
	r.write(everything(2))
	r.shard.RequestCompaction()
	r.flush()
	require.NoError(t, r.shard.Restore(t.Context(), payload, manifest))
	held.Close()
	require.NoError(t, r.shard.Close())
	r.payload, r.manifest = payload, manifest
	r.open()
	require.Equal(t, want, r.dumpNow(1))
}

// received makes a receiver of a file with some content.
func received(t *testing.T, cfg Config, content string) (*FileReceiver, FileInfo) {
	t.Helper()
	f := wire.SealedFile{Hash: sha256.Sum256([]byte(content)), Bytes: uint64(len(content))}
	info := SealedFileInfo(f)
	r, err := ReceiveFile(cfg, info)
	require.NoError(t, err)
	return r, info
}

func TestReceivingGoesOnWhereItStopped(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Set: testSet}
	const content = "the content of a block"
	r, info := received(t, cfg, content)
	_, err := r.Write([]byte(content[:9]))
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())

	r, _ = received(t, cfg, content)
	require.EqualValues(t, 9, r.Offset())
	require.ErrorIs(t, r.Finish(t.Context()), io.ErrUnexpectedEOF, "what is not whole stays a part")
	require.ErrorIs(t, AdoptFile(cfg, info), fs.ErrNotExist)

	r, _ = received(t, cfg, content)
	_, err = r.Write([]byte(content[9:]))
	require.NoError(t, err)
	_, err = r.Write([]byte("!"))
	require.ErrorIs(t, err, ErrDamaged)
	require.NoError(t, r.Finish(t.Context()))
	require.NoError(t, AdoptFile(cfg, info))
	got, err := os.ReadFile(filepath.Join(cfg.Dir, info.Name))
	require.NoError(t, err)
	require.Equal(t, content, string(got))
}

func TestBytesThatAreNotTheFilesAreThrownAway(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Set: testSet}
	const content = "the content of a block"
	r, info := received(t, cfg, content)
	_, err := r.Write([]byte(strings.ToUpper(content)))
	require.NoError(t, err)
	require.ErrorIs(t, r.Finish(t.Context()), ErrDamaged)
	require.Empty(t, fileNames(t, filepath.Join(cfg.Dir, incomingDir)))

	// So are those of a part that is longer than the file.
	part := cfg.incoming(info.Name + partSuffix)
	require.NoError(t, os.WriteFile(part, []byte(content+content), 0o600))
	r, _ = received(t, cfg, content)
	require.Zero(t, r.Offset())
	_, err = r.Write([]byte(content))
	require.NoError(t, err)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.Finish(canceled), context.Canceled)
	require.FileExists(t, part, "a check that was cut short says nothing of the bytes")
}

func TestNamesThatLeadElsewhereAreRefused(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Set: testSet}
	good := deltaFileName(1, 2, [32]byte{5})
	for _, name := range []string{
		"", "..", "../x", "/etc/passwd", good + "/..", "../" + good, strings.ToUpper(good), deltaFileName(1, 2, [32]byte{6}),
		"sealed-" + strings.Repeat("0", 64) + ".qblock", good + partSuffix, unnamedFileName, "+1-2-0500000000000000.qdelta",
	} {
		_, err := ReceiveFile(cfg, FileInfo{Name: name, Bytes: 1, SHA256: [32]byte{5}})
		require.ErrorIs(t, err, ErrDamaged, name)
	}
	r, err := ReceiveFile(cfg, FileInfo{Name: good, Bytes: 1, SHA256: [32]byte{5}})
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

func TestOpenRemovesWhatWasReceivedForAnotherManifest(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	r.write(everything(1))
	r.flush()
	named := deltaOf(t, r.dir, 1, 2)
	other := deltaFileName(7, 8, [32]byte{7})
	sealed := SealedFileName(wire.SealedFile{Hash: [32]byte{1}})
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, incomingDir), 0o700))
	for _, name := range []string{named, other, other + partSuffix, sealed, sealed + partSuffix, "notes.txt"} {
		require.NoError(t, os.WriteFile(filepath.Join(r.dir, incomingDir, name), nil, 0o600))
	}
	require.NoError(t, r.shard.Restore(t.Context(), r.payload, r.manifest))
	require.Equal(t, []string{other, other + partSuffix, "notes.txt", sealed, sealed + partSuffix},
		fileNames(t, filepath.Join(r.dir, incomingDir)), "what may be received meanwhile stays")
	r.reopen()
	require.Equal(t, []string{"notes.txt", sealed, sealed + partSuffix}, fileNames(t, filepath.Join(r.dir, incomingDir)))
	require.Equal(t, []string{named, incomingDir}, fileNames(t, r.dir))
}

// TestACrashWhileFilesAreAdoptedLeavesThemToBeAdopted crashes before every call
// of the file system of a first open.
func TestACrashWhileFilesAreAdoptedLeavesThemToBeAdopted(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 1000))
	r.write(everything(1))
	r.flush()
	r.write(oneFloat(2, 2))
	r.flush()
	want := r.dumpNow(1)
	files, err := FilesOf(r.payload)
	require.NoError(t, err)
	prepare := func() *faultfs.FS {
		disk := faultfs.New()
		d := durable.Disk{FS: disk}
		require.NoError(t, d.MkdirAll(filepath.Join(crashDir, incomingDir)))
		for _, f := range files {
			data, err := os.ReadFile(filepath.Join(r.dir, f.Name))
			require.NoError(t, err)
			require.NoError(t, d.WriteFile(filepath.Join(crashDir, incomingDir, f.Name), data))
		}
		return disk
	}
	open := func(disk *faultfs.FS) (*Shard, error) {
		s, err := New(Config{Dir: crashDir, Disk: durable.Disk{FS: disk}, Set: testSet})
		require.NoError(t, err)
		return s, s.Open(t.Context(), r.payload, r.manifest)
	}
	whole := prepare()
	_, err = Verify(t.Context(), Config{Dir: crashDir, Disk: durable.Disk{FS: whole}, Set: testSet}, r.payload, r.manifest)
	require.NoError(t, err, "verified before the first open")
	from := whole.Calls()
	s, err := open(whole)
	require.NoError(t, err)
	calls := whole.Calls() - from
	require.NoError(t, s.Close())
	for n := 1; n <= calls; n++ {
		// faultfs.LoseSome can lose half of a rename from one directory to
		// another, which is one change to the file systems this runs on.
		for _, loss := range []faultfs.Loss{faultfs.KeepAll, faultfs.LoseAll} {
			says := fmt.Sprintf("crash at call %d, loss %d", n, loss)
			disk := prepare()
			disk.CrashAt(n)
			_, err := open(disk)
			require.ErrorIs(t, err, faultfs.ErrCrashed, says)
			s, err := open(disk.Restart(loss, rand.New(rand.NewPCG(uint64(n), 1))))
			require.NoError(t, err, says)
			v := viewOf(t, s)
			require.Equal(t, want, dumpView(t, v, 1), says)
			v.Close()
			require.NoError(t, s.Close())
		}
	}
}
