package faultfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate/internal/durable"
)

func read(t *testing.T, f *FS, path string) string {
	t.Helper()
	file, err := f.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	require.NoError(t, err)
	info, err := file.Stat()
	require.NoError(t, err)
	b := make([]byte, info.Size())
	_, err = file.ReadAt(b, 0)
	if info.Size() > 0 {
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())
	return string(b)
}

func write(t *testing.T, f *FS, path, data string, sync bool) {
	t.Helper()
	file, err := f.Create(path)
	require.NoError(t, err)
	_, err = file.Write([]byte(data))
	require.NoError(t, err)
	if sync {
		require.NoError(t, file.Sync())
	}
	require.NoError(t, file.Close())
}

func TestACrashTakesWhatWasNotFsynced(t *testing.T) {
	f := New()
	require.NoError(t, f.Mkdir("/d"))
	require.NoError(t, f.SyncDir("/"))
	write(t, f, "/d/named", "bytes", true)
	require.NoError(t, f.SyncDir("/d"))
	write(t, f, "/d/nameless", "bytes", true)
	write(t, f, "/d/named", "newer", false)
	require.NoError(t, f.Rename("/d/nameless", "/d/other"))

	kept := f.Restart(KeepAll, nil)
	require.Equal(t, "newer", read(t, kept, "/d/named"))
	require.Equal(t, "bytes", read(t, kept, "/d/other"))
	require.Equal(t, "absent", read(t, kept, "/d/nameless"))
	_, err := f.Open("/d/named")
	require.ErrorIs(t, err, ErrCrashed, "the process before the crash is dead")

	lost := f.Restart(LoseAll, nil)
	require.Equal(t, "bytes", read(t, lost, "/d/named"))
	require.Equal(t, "absent", read(t, lost, "/d/other"))
	require.Equal(t, "absent", read(t, lost, "/d/nameless"))
}

func TestChanceKeepsAPrefixOfTheChanges(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(200) {
		f := New()
		write(t, f, "/a", "1", true)
		require.NoError(t, f.SyncDir("/"))
		require.NoError(t, f.Rename("/a", "/b"))
		write(t, f, "/c", "xyz", false)
		g := f.Restart(LoseSome, rand.New(rand.NewPCG(seed, 1)))
		state := read(t, g, "/a") + " " + read(t, g, "/b") + " " + read(t, g, "/c")
		seen[state] = true
	}
	require.Contains(t, seen, "1 absent absent", "nothing of it")
	require.Contains(t, seen, "1 1 absent", "half a rename")
	require.Contains(t, seen, "absent 1 absent", "the rename")
	require.Contains(t, seen, "absent 1 x", "and a file with some of its bytes")
	require.NotContains(t, seen, "1 absent xyz", "never the later change without the earlier")
}

func TestEveryCrashOfAPublicationLeavesTheOldFileOrTheNew(t *testing.T) {
	publish := func(f *FS) error { return durable.Disk{FS: f}.WriteFile("/f", []byte("new")) }
	start := func() *FS {
		f := New()
		require.NoError(t, durable.Disk{FS: f}.WriteFile("/f", []byte("old")))
		return f
	}
	whole := start()
	before := whole.Calls()
	require.NoError(t, publish(whole))
	calls := whole.Calls() - before
	for at := 1; at <= calls+1; at++ {
		for _, loss := range []Loss{KeepAll, LoseAll, LoseSome} {
			f := start()
			f.CrashAt(at)
			err := publish(f)
			got := read(t, f.Restart(loss, rand.New(rand.NewPCG(uint64(at), 2))), "/f")
			if err == nil {
				require.Equal(t, "new", got, "crash at call %d", at)
			} else {
				require.ErrorIs(t, err, ErrCrashed)
				require.Contains(t, []string{"old", "new"}, got, "crash at call %d", at)
			}
		}
	}
}

func TestOneCallFails(t *testing.T) {
	f := New()
	errDisk := errors.New("input/output error")
	f.FailAt(2, errDisk)
	file, err := f.Create("/f")
	require.NoError(t, err)
	n, err := file.Write([]byte("1234"))
	require.ErrorIs(t, err, errDisk)
	require.Equal(t, 2, n, "a failed write may have written a part")
	_, err = file.Write([]byte("5"))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.ErrorIs(t, file.Close(), fs.ErrClosed)
}
