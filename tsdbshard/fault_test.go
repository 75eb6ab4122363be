package tsdbshard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/faultfs"
	"github.com/quorate/quorate/internal/wire"
)

// crashRig is a shard on a file system that fails, with the manifest file that
// raftset would keep beside it. Its log is safe.
type crashRig struct {
	disk     durable.Disk
	shard    *Shard
	log      []quorate.LogEntry
	applied  int
	payload  []byte // of the manifest in force
	manifest uint64 // its index
	sealed   *wire.SealedFile
}

const (
	crashDir      = "/data/7"
	crashManifest = "/data/manifest"
)

// open opens the shard from the manifest that is found, as a start does.
func (c *crashRig) open() error {
	if err := c.disk.MkdirAll(crashDir); err != nil {
		return err
	}
	c.payload, c.manifest = GenesisPayload(openRange(0, 1000)), 1
	b, err := readFile(c.disk, crashManifest)
	switch {
	case err == nil:
		c.manifest, c.payload = binary.LittleEndian.Uint64(b), b[8:]
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	s, err := New(Config{Dir: crashDir, Disk: c.disk, Set: testSet})
	if err != nil {
		return err
	}
	c.shard, c.applied = s, 0
	return s.Open(context.Background(), c.payload, c.manifest)
}

func readFile(disk durable.Disk, path string) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	_, err = f.ReadAt(b, 0)
	return b, err
}

// applyTo applies the log up to an index.
func (c *crashRig) applyTo(index uint64) error {
	for c.applied < len(c.log) && c.log[c.applied].Index <= index {
		if _, err := c.shard.ApplyBatch(c.log[c.applied : c.applied+1]); err != nil {
			return err
		}
		c.applied++
	}
	return nil
}

// flushAt flushes the state at an index.
func (c *crashRig) flushAt(index uint64) error {
	if err := c.applyTo(index); err != nil {
		return err
	}
	f, err := c.shard.Freeze()
	if err != nil {
		return err
	}
	payload, err := f.Persist(context.Background(), index)
	if err != nil {
		f.Discard()
		return err
	}
	if err := c.disk.WriteFile(crashManifest, append(binary.LittleEndian.AppendUint64(nil, index), payload...)); err != nil {
		f.Discard()
		return err
	}
	c.payload, c.manifest = payload, index
	f.Published()
	return nil
}

// aFew is a batch with few rows of each kind.
func aFew(t int64) *wire.Batch {
	h := testHistograms()
	b := batchOf(1, 1).floatWithStart(metricA(), t, 1, float64(t)).float(metricB(), t, 2).
		exemplar(metricA(), t, 1, canonical("trace_id", fmt.Sprint(t))).metadata("a", "counter", "", fmt.Sprint(t)).
		histogram(canonical("__name__", "h"), t, 0, h[int(t)%2].H, h[int(t)%2].FH)
	return &b.Batch
}

// crashScript is what a set lives through, step by step.
func crashScript() (log []quorate.LogEntry, steps []func(*crashRig) error) {
	var enc wire.Encoder
	add := func(kind wire.Kind, command []byte) uint64 {
		index := uint64(len(log) + 2)
		log = append(log, quorate.LogEntry{Index: index, Data: enc.Append(nil, kind, command)})
		return index
	}
	flush := func(index uint64) {
		steps = append(steps, func(c *crashRig) error { return c.flushAt(index) })
	}
	steps = append(steps, (*crashRig).open)
	for i := range int64(3) {
		add(wire.KindWrite, aFew(10*i+1).Append(nil))
		add(wire.KindWrite, aFew(10*i+2).Append(nil))
		flush(add(wire.KindWrite, oneFloat(10*i+3, 1).Append(nil)))
	}
	d := wire.Deletion{Tenant: 1, MinTime: 2, MaxTime: 11, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}}
	flush(add(wire.KindDelete, d.Append(nil)))
	add(wire.KindWrite, oneFloat(50, 1).Append(nil))
	steps = append(steps, func(c *crashRig) error {
		c.applied = 0
		return c.shard.Restore(context.Background(), c.payload, c.manifest)
	})
	compacted := log[len(log)-1].Index
	steps = append(steps, func(c *crashRig) error {
		c.shard.RequestCompaction()
		return c.flushAt(compacted)
	})
	add(wire.KindWrite, oneFloat(60, 1).Append(nil))
	seal := add(wire.KindSeal, AppendSealCommand(nil, &wire.Seal{Intent: 1}))
	steps = append(steps, func(c *crashRig) error {
		if err := c.applyTo(seal); err != nil {
			return err
		}
		v, err := c.shard.View()
		if err != nil {
			return err
		}
		defer v.Close()
		file, err := WriteCanonical(context.Background(), Sources{View: v}, Config{Dir: crashDir, Disk: c.disk, Set: testSet}, seal)
		if err == nil {
			c.sealed = &file
		}
		return err
	})
	flush(seal)
	return log, steps
}

func run(c *crashRig, steps []func(*crashRig) error) error {
	for i, step := range steps {
		if err := step(c); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	return nil
}

// names returns the names in the shard's directory.
func (c *crashRig) names(t *testing.T) []string {
	t.Helper()
	entries, err := c.disk.ReadDir(crashDir)
	require.NoError(t, err)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// checkWhole compares a shard that was opened with what the whole log gives,
// and its directory with its manifest.
func (c *crashRig) checkWhole(t *testing.T, want dump, says string) {
	t.Helper()
	m, err := decodeManifest(c.payload)
	require.NoError(t, err)
	files := []string{}
	for i := range m.files {
		files = append(files, m.files[i].name())
	}
	onDisk := slices.DeleteFunc(c.names(t), func(name string) bool { return strings.HasPrefix(name, "sealed-") })
	require.Equal(t, files, onDisk, says)
	require.NoError(t, c.applyTo(c.log[len(c.log)-1].Index), says)
	v := viewOf(t, c.shard)
	defer v.Close()
	require.Equal(t, want, dumpView(t, v, 1), says)
}

// TestACrashAtAnyCallLeavesTheOldStateOrTheNew crashes before every single call
// of the file system in the life of a set, loses nothing, everything or some of
// what was not fsynced, and opens what is left.
func TestACrashAtAnyCallLeavesTheOldStateOrTheNew(t *testing.T) {
	log, steps := crashScript()
	whole := &crashRig{disk: durable.Disk{FS: faultfs.New()}, log: log}
	require.NoError(t, run(whole, steps))
	calls := whole.disk.FS.(*faultfs.FS).Calls()
	v := viewOf(t, whole.shard)
	want := dumpView(t, v, 1)
	v.Close()
	require.NoError(t, whole.shard.Close())
	t.Logf("%d calls", calls)

	for n := 1; n <= calls; n++ {
		for _, loss := range []faultfs.Loss{faultfs.KeepAll, faultfs.LoseAll, faultfs.LoseSome} {
			says := fmt.Sprintf("crash at call %d, loss %d", n, loss)
			disk := faultfs.New()
			disk.CrashAt(n)
			crashed := &crashRig{disk: durable.Disk{FS: disk}, log: log}
			err := run(crashed, steps)
			require.True(t, err == nil || errors.Is(err, faultfs.ErrCrashed), "%s: %v", says, err)
			next := &crashRig{disk: durable.Disk{FS: disk.Restart(loss, rand.New(rand.NewPCG(uint64(n), 1)))}, log: log}
			require.NoError(t, next.open(), says)
			require.GreaterOrEqual(t, next.manifest, crashed.manifest, "%s: a published manifest is durable", says)
			next.checkWhole(t, want, says)
			if crashed.sealed != nil {
				require.NoError(t, VerifySealed(t.Context(), Config{Dir: crashDir, Disk: next.disk, Set: testSet}, *crashed.sealed), says)
			}
			require.NoError(t, next.flushAt(log[len(log)-1].Index+1), says)
			require.NoError(t, next.shard.Close())
			require.NoError(t, next.open(), says)
			next.checkWhole(t, want, says)
			require.NoError(t, next.shard.Close())
		}
	}
}

// TestACallThatFailsLosesNothing makes every single call fail once. What was
// under way fails, or goes on where the failure is of no account; the shard
// shows what it should, and the same flush succeeds when tried again.
func TestACallThatFailsLosesNothing(t *testing.T) {
	log, steps := crashScript()
	whole := &crashRig{disk: durable.Disk{FS: faultfs.New()}, log: log}
	require.NoError(t, run(whole, steps))
	calls := whole.disk.FS.(*faultfs.FS).Calls()
	v := viewOf(t, whole.shard)
	want := dumpView(t, v, 1)
	v.Close()
	require.NoError(t, whole.shard.Close())

	errDisk := errors.New("input/output error")
	for n := 1; n <= calls; n++ {
		says := fmt.Sprintf("call %d fails", n)
		disk := faultfs.New()
		disk.FailAt(n, errDisk)
		c := &crashRig{disk: durable.Disk{FS: disk}, log: log}
		for i := 0; i < len(steps); i++ {
			err := steps[i](c)
			if err == nil {
				continue
			}
			require.ErrorIs(t, err, errDisk, says)
			require.NoError(t, steps[i](c), "%s: tried again", says)
		}
		v := viewOf(t, c.shard)
		require.Equal(t, want, dumpView(t, v, 1), says)
		v.Close()
		require.NoError(t, c.shard.Close())
		require.NoError(t, c.open(), says)
		c.checkWhole(t, want, says)
		require.NoError(t, c.shard.Close())
	}
}

// catcher is a failer that a dump may fail.
type catcher struct{ failed string }

type caught struct{}

func (c *catcher) Helper()                           {}
func (c *catcher) Errorf(format string, args ...any) { c.failed = fmt.Sprintf(format, args...) }
func (c *catcher) FailNow()                          { panic(caught{}) }
func (c *catcher) Fatalf(format string, args ...any) { c.Errorf(format, args...); c.FailNow() }

// tryDump runs a dump that may fail and says why it did.
func tryDump(f func(failer) dump) (d dump, failed string) {
	c := &catcher{}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(caught); !ok {
				panic(r)
			}
			failed = c.failed
		}
	}()
	return f(c), ""
}

// mutationRig is a shard with several blocks, a tombstone and a canonical block.
func mutationRig(t *testing.T) (*rig, wire.SealedFile, SealInfo) {
	t.Helper()
	r := newRigOn(t, durable.Disk{FS: faultfs.New()}, crashDir, openRange(0, 10_000))
	for i := range int64(100) {
		r.write(aFew(10*i + 1))
	}
	r.flush()
	for i := range int64(8) {
		r.write(aFew(5000 + i))
	}
	r.flush()
	r.write(aFew(6000))
	d := wire.Deletion{Tenant: 1, MinTime: 100, MaxTime: 5004, Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "a")}}
	r.apply(wire.KindDelete, d.Append(nil))
	r.flush()
	info := r.seal(wire.Seal{Intent: 1})
	f := r.freeze()
	r.publish(f, r.persist(f, r.index), r.index)
	s := r.canonical(nil)
	require.NoError(t, s.Close())
	return r, s.File(), info
}

// TestNoDamageGivesAWrongValue flips bits of, and cuts, the manifest and every
// file of a replica, one at a time. Reading must fail or give what it gave
// before; verifying must fail.
func TestNoDamageGivesAWrongValue(t *testing.T) {
	r, file, info := mutationRig(t)
	require.GreaterOrEqual(t, len(r.shard.st.files), 2)
	require.NotEmpty(t, r.shard.st.tombstones)
	want := r.dumpNow(1)
	wantSealed := dumpFile(t, r.disk, file, info)
	names := []string{"manifest"}
	whole := map[string][]byte{"manifest": r.payload}
	entries, err := r.disk.ReadDir(r.dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
		if whole[e.Name()], err = readFile(r.disk, filepath.Join(r.dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(9, 9))
	const rounds = 300
	refused, harmless := 0, 0
	for _, name := range names {
		for range rounds {
			bad := slices.Clone(whole[name])
			at := rng.IntN(len(bad))
			if rng.IntN(8) == 0 {
				bad = bad[:at]
			} else {
				bad[at] ^= 1 << rng.IntN(8)
			}
			says := fmt.Sprintf("%s of %d bytes, byte %d", name, len(whole[name]), at)
			payload, disk := r.payload, r.disk
			if name == "manifest" {
				payload = bad
			} else {
				disk = durable.Disk{FS: overlay{FS: r.disk.FS, path: filepath.Join(r.dir, name), data: bad}}
			}
			got, failed := tryDump(func(t failer) dump { return openAndDump(t, r, disk, payload) })
			sealed, failedSealed := tryDump(func(t failer) dump { return dumpFile(t, disk, file, info) })
			if failed == "" {
				require.Equal(t, want, got, says)
			}
			if failedSealed == "" {
				require.Equal(t, wantSealed, sealed, says)
			}
			if failed+failedSealed == "" {
				harmless++
			} else {
				refused++
			}
			cfg := Config{Dir: r.dir, Disk: disk, Set: testSet}
			_, err := Verify(t.Context(), cfg, payload, r.manifest)
			err = errors.Join(err, VerifySealed(t.Context(), cfg, file))
			require.ErrorIs(t, err, ErrDamaged, says)
		}
	}
	t.Logf("%d damages refused, %d of no account when all is read", refused, harmless)
}

// overlay is a file system in which one file has other bytes.
type overlay struct {
	durable.FS
	path string
	data []byte
}

func (o overlay) Open(path string) (durable.File, error) {
	if path != o.path {
		return o.FS.Open(path)
	}
	return openBytes(path, o.data)
}

// openBytes opens bytes as a file.
func openBytes(path string, data []byte) (durable.File, error) {
	own := faultfs.New()
	if err := (durable.Disk{FS: own}).WriteFile("/"+filepath.Base(path), data); err != nil {
		return nil, err
	}
	return own.Open("/" + filepath.Base(path))
}

func openAndDump(t failer, r *rig, disk durable.Disk, payload []byte) dump {
	s, err := New(Config{Dir: r.dir, Disk: disk, Set: testSet})
	require.NoError(t, err)
	st, err := s.loadState(context.Background(), payload, r.manifest)
	require.NoError(t, err)
	s.st = st
	defer s.Close()
	v := viewOf(t, s)
	defer v.Close()
	return dumpView(t, v, 1)
}

func dumpFile(t failer, disk durable.Disk, file wire.SealedFile, info SealInfo) dump {
	s, err := OpenSealed(Config{Dir: crashDir, Disk: disk, Set: testSet}, info.Index, quorate.TimeRange{Start: 0, End: 10_000}, file)
	require.NoError(t, err)
	defer s.Close()
	return dumpSealed(t, s, nil, 1)
}

// TestAReadThatFailsIsAnError makes every single read of a start and of queries
// after it fail once: the start or a query fails, or all give everything.
func TestAReadThatFailsIsAnError(t *testing.T) {
	r, file, info := mutationRig(t)
	want := r.dumpNow(1)
	wantSealed := dumpFile(t, r.disk, file, info)
	disk := r.disk.FS.(*faultfs.FS)
	errDisk := errors.New("input/output error")
	for n, failures := 1, 0; ; n++ {
		disk.FailAt(n, errDisk)
		got, failed := tryDump(func(t failer) dump { return openAndDump(t, r, r.disk, r.payload) })
		if failed == "" {
			require.Equal(t, want, got)
			require.Greater(t, failures, 10)
			break
		}
		require.Contains(t, failed, "input/output error")
		failures++
	}
	for n := 1; ; n++ {
		disk.FailAt(n, errDisk)
		got, failed := tryDump(func(t failer) dump { return dumpFile(t, r.disk, file, info) })
		if failed == "" {
			require.Equal(t, wantSealed, got)
			break
		}
	}
}
