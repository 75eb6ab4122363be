package node

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate"
)

func TestAPromiseReadsBackUntilItIsForgotten(t *testing.T) {
	dir := t.TempDir()
	to := quorate.NodeID{Name: "node-1", Incarnation: quorate.NewIncarnation()}
	for _, promised := range []quorate.NodeID{to, {}, to} {
		if err := keepPromise(dir, promised); err != nil {
			t.Fatal(err)
		}
		if got, err := readPromise(dir); got != promised || err != nil {
			t.Errorf("got %v, %v; want %v", got, err, promised)
		}
	}
	for range 2 {
		if err := forgetPromise(dir); err != nil {
			t.Fatal(err)
		}
		if got, err := readPromise(dir); got != (quorate.NodeID{}) || err != nil {
			t.Errorf("forgotten it is %v, %v", got, err)
		}
	}
}

func TestADamagedPromiseIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := keepPromise(dir, quorate.NodeID{Name: "node-1", Incarnation: quorate.NewIncarnation()}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, promiseName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, damaged := range map[string][]byte{
		"another name":    bytes.Replace(whole, []byte("node-1"), []byte("node-2"), 1),
		"another version": bytes.Replace(whole, []byte(`"version": 1`), []byte(`"version": 2`), 1),
		"half of it":      whole[:len(whole)/2],
		"nothing":         nil,
	} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPromise(dir); err == nil {
			t.Errorf("%s: it is taken for %v", what, got)
		}
	}
}

func FuzzPromise(f *testing.F) {
	dir := f.TempDir()
	if err := keepPromise(dir, quorate.NodeID{Name: "node-1"}); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, promiseName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := decodePromise(data); err != nil && got != (quorate.NodeID{}) {
			t.Errorf("an error comes with %v", got)
		}
	})
}
