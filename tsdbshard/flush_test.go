package tsdbshard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/testwait"
	"github.com/quorate/quorate/internal/wire"
)

// everything is a batch with a row of each kind.
func everything(t int64) *wire.Batch {
	b := batchOf(1, 1).floatWithStart(metricA(), t, 1, float64(t)).float(metricB(), t, 2).
		exemplar(metricA(), t, 1, canonical("trace_id", fmt.Sprint(t))).metadata("a", "counter", "", fmt.Sprint(t))
	for i, h := range testHistograms() {
		b.histogram(canonical("__name__", "h", "i", fmt.Sprint(i)), t, 0, h.H, h.FH)
	}
	return &b.Batch
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// deltaOf returns the name of the delta block of an interval in a directory.
func deltaOf(t *testing.T, dir string, lo, hi uint64) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%020d-%020d-*", lo, hi)))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return filepath.Base(found[0])
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(to, 0o700))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// TestKilledAtAnyPointOfAFlush opens the shard from every directory that a
// crash can leave behind while a second flush is under way, with the manifest
// that is in force at that point.
func TestKilledAtAnyPointOfAFlush(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, openRange(0, 100))
	r.write(everything(1))
	r.flush()
	r.write(everything(2))
	oldPayload, oldManifest := r.payload, r.manifest
	want := r.dumpNow(1)
	before := t.TempDir()
	copyDir(t, dir, before)

	f := r.freeze()
	payload := r.persist(f, r.index)
	name := deltaOf(t, dir, oldManifest, r.index)
	written, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)

	check := func(says string, state string, payload []byte, manifest uint64, wantFiles []string) {
		t.Run(says, func(t *testing.T) {
			crashed := &rig{t: t, dir: state, index: r.index, log: r.log, results: r.results, payload: payload, manifest: manifest}
			crashed.open()
			crashed.replay()
			require.Equal(t, want, crashed.dumpNow(1))
			require.Equal(t, wantFiles, fileNames(t, state))
			crashed.write(everything(3))
			crashed.flush()
			crashed.reopen()
			require.Equal(t, crashed.dumpNow(1)[1].samples[labelsOf(metricA()).String()][3], float(1, 3))
			require.NoError(t, crashed.shard.Close())
		})
	}
	oldFile := deltaOf(t, dir, 1, oldManifest)
	for _, cut := range []int{0, 1, 10, len(written) / 2, len(written) - 1, len(written)} {
		state := t.TempDir()
		copyDir(t, before, state)
		require.NoError(t, os.WriteFile(filepath.Join(state, name+".tmp"), written[:cut], 0o600))
		check(fmt.Sprintf("after %d of %d bytes", cut, len(written)), state, oldPayload, oldManifest, []string{oldFile})
	}
	state := t.TempDir()
	copyDir(t, dir, state)
	check("after the rename, before the manifest", state, oldPayload, oldManifest, []string{oldFile})
	state = t.TempDir()
	copyDir(t, dir, state)
	check("after the manifest", state, payload, r.index, []string{oldFile, name})
}

func TestOpenSweepsOnlyBlocksThatTheManifestDoesNotName(t *testing.T) {
	dir := t.TempDir()
	r := newRig(t, dir, openRange(0, 100))
	r.write(everything(1))
	r.flush()
	named, other := deltaOf(t, dir, 1, 2), deltaFileName(3, 4, [32]byte{1})
	for _, name := range []string{deltaFileName(2, 9, [32]byte{}), unnamedFileName, "2-9.qdelta", "notes.txt", "x.tmp"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, other), 0o700))
	r.reopen()
	require.Equal(t, []string{named, other, "2-9.qdelta", "notes.txt"}, fileNames(t, dir))
}

func TestAFileOfAnotherPlaceIsRefused(t *testing.T) {
	write := func(value float64) (*rig, []byte) {
		r := newRig(t, t.TempDir(), openRange(0, 100))
		r.write(oneFloat(1, value))
		r.flush()
		data, err := os.ReadFile(filepath.Join(r.dir, deltaOf(t, r.dir, 1, 2)))
		require.NoError(t, err)
		return r, data
	}
	r, good := write(1)
	_, other := write(2)
	path := filepath.Join(r.dir, deltaOf(t, r.dir, 1, 2))
	load := func(set quorate.ReplicaSetID, manifest uint64) error {
		s, err := New(Config{Dir: r.dir, Set: set})
		require.NoError(t, err)
		defer s.Close()
		return s.Open(t.Context(), r.payload, manifest)
	}

	require.NoError(t, os.WriteFile(path, other, 0o600))
	require.ErrorIs(t, load(testSet, r.manifest), ErrDamaged, "a sound file that is not the one the manifest names")

	require.NoError(t, os.WriteFile(path, good, 0o600))
	require.ErrorIs(t, load(testSet+1, r.manifest), ErrDamaged, "a file of another set")
	require.ErrorIs(t, load(testSet, r.manifest-1), ErrDamaged, "a file that ends after the manifest")
	require.NoError(t, load(testSet, r.manifest))

	require.NoError(t, os.Remove(path))
	require.ErrorIs(t, load(testSet, r.manifest), fs.ErrNotExist)
}

func TestEveryBitOfAManifestIsChecked(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	r.flush()
	for i := range r.payload {
		for bit := range 8 {
			bad := append([]byte(nil), r.payload...)
			bad[i] ^= 1 << bit
			_, err := decodeManifest(bad)
			require.ErrorIs(t, err, ErrDamaged, "bit %d of byte %d", bit, i)
		}
	}
}

func TestDiscardedStateIsWrittenByTheNextFlush(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	f := r.freeze()
	r.persist(f, r.index)
	f.Discard()
	r.write(everything(2))
	want := r.dumpNow(1)
	require.Len(t, r.shard.st.frozen, 1)
	r.flush()
	require.Empty(t, r.shard.st.frozen)
	require.Zero(t, r.shard.MemcacheBytes())
	require.Equal(t, []string{deltaOf(t, r.dir, 1, 2), deltaOf(t, r.dir, 1, 3)}, fileNames(t, r.dir), "a discarded file stays until the next open")
	require.Equal(t, want, r.dumpNow(1))
	r.reopen()
	require.Equal(t, want, r.dumpNow(1))
	require.Equal(t, []string{deltaOf(t, r.dir, 1, 3)}, fileNames(t, r.dir))
}

func TestProtocol21FailedPersistKeepsTheState(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	want := r.dumpNow(1)
	f := r.freeze()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Persist(canceled, r.index)
	require.ErrorIs(t, err, context.Canceled)
	f.Discard()

	require.NoError(t, os.RemoveAll(r.dir))
	f = r.freeze()
	_, err = f.Persist(t.Context(), r.index)
	require.ErrorIs(t, err, fs.ErrNotExist)
	f.Discard()
	require.Equal(t, want, r.dumpNow(1))

	require.NoError(t, os.Mkdir(r.dir, 0o700))
	r.flush()
	r.reopen()
	require.Equal(t, want, r.dumpNow(1))
}

func TestPersistRefusesAnIndexThatIsNotTheFrozenStates(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	f := r.freeze()
	_, err := f.Persist(t.Context(), r.index-1)
	require.ErrorIs(t, err, errWrongIndex, "entries that are in the file would be replayed")
	r.index += 5 // barriers
	r.write(everything(2))
	_, err = f.Persist(t.Context(), r.index)
	require.ErrorIs(t, err, errWrongIndex, "an entry that is not in the file would be lost")
	payload, err := f.Persist(t.Context(), r.index-1)
	require.NoError(t, err, "an index past barriers is right")
	r.publish(f, payload, r.index-1)
	want := r.dumpNow(1)
	r.reopen()
	require.Equal(t, want, r.dumpNow(1))
}

// TestProtocol21RestoreVoidsARunningPersist restores while a Persist is between two of
// its checks; the persist must give up and publish no file.
func TestProtocol21RestoreVoidsARunningPersist(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	f := r.freeze().(*frozenState)
	running, goOn := make(chan struct{}), make(chan struct{})
	once := false
	check := f.src.check
	f.src.check = func() error {
		if !once {
			once = true
			close(running)
			<-goOn
		}
		return check()
	}
	failed := make(chan error)
	go func() {
		_, err := f.Persist(context.Background(), 2)
		failed <- err
	}()
	<-running
	restored := make(chan error)
	go func() { restored <- r.shard.Restore(context.Background(), GenesisPayload(openRange(0, 50)), 9) }()
	// Restore voids the persist before it waits for it.
	testwait.For(t, "Restore to void the persist", func() bool { return errors.Is(check(), ErrVoid) })
	close(goOn)
	require.ErrorIs(t, <-failed, ErrVoid)
	require.NoError(t, <-restored)
	f.Published()
	require.Equal(t, openRange(0, 50), r.shard.Bounds())
	require.Empty(t, r.shard.st.files)
	require.Empty(t, fileNames(t, r.dir))
	_, err := f.Persist(context.Background(), 2)
	require.ErrorIs(t, err, ErrVoid)
}

func TestALaterFreezeVoidsTheOneBefore(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	first := r.freeze()
	payload := r.persist(first, r.index)
	r.write(everything(2))
	second := r.freeze()
	// raftset published the first after all; a crash now must be sound too.
	r.publish(first, payload, 2)
	want := r.dumpNow(1)
	crash := &rig{t: t, dir: t.TempDir(), index: r.index, log: r.log, results: r.results, payload: r.payload, manifest: r.manifest}
	copyDir(t, r.dir, crash.dir)
	crash.open()
	crash.replay()
	require.Equal(t, want, crash.dumpNow(1))
	r.publish(second, r.persist(second, r.index), r.index)
	r.reopen()
	require.Equal(t, want, r.dumpNow(1))
}

func TestNothingToWriteMakesNoFile(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.flush()
	require.Empty(t, fileNames(t, r.dir))
	r.write(oneFloat(1, 1))
	r.flush()
	r.write(oneFloat(1, 1)) // a duplicate changes nothing
	r.flush()
	require.Len(t, fileNames(t, r.dir), 1)
	r.reopen()
	require.Equal(t, map[int64]string{1: float(0, 1)}, r.samplesOfA())
}

// TestBlocksAreDeterministic writes one interval on two replicas, of which
// one failed to flush in between and had a view open all the time.
func TestBlocksAreDeterministic(t *testing.T) {
	a, b := newRig(t, t.TempDir(), openRange(0, 1000)), newRig(t, t.TempDir(), openRange(0, 1000))
	v := b.view()
	defer v.Close()
	for i := range int64(50) {
		a.write(everything(2 * i))
		a.write(everything(i)) // late ones too
		b.write(everything(2 * i))
		b.write(everything(i))
	}
	a.flush()
	b.flush()
	require.Equal(t, a.payload, b.payload, "the manifests, with the SHA-256 of the file")
}

func TestCloseIsFinal(t *testing.T) {
	r := newRig(t, t.TempDir(), openRange(0, 100))
	r.write(everything(1))
	f := r.freeze()
	require.NoError(t, r.shard.Close())
	require.NoError(t, r.shard.Close())
	_, err := f.Persist(t.Context(), r.index)
	require.ErrorIs(t, err, ErrVoid)
	f.Published()
	_, err = r.shard.ApplyBatch(nil)
	require.ErrorIs(t, err, ErrNotOpen)
	require.ErrorIs(t, r.shard.Restore(t.Context(), r.payload, r.manifest), ErrNotOpen)
	_, err = r.shard.View()
	require.ErrorIs(t, err, ErrNotOpen)
}

func TestConfigNeedsADirectory(t *testing.T) {
	_, err := New(Config{})
	require.Error(t, err)
}
