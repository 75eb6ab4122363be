package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
)

// promiseFile is the JSON form of the promise file, docs/format/promise.md.
type promiseFile struct {
	Version     int    `json:"version"`
	Name        string `json:"name,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
	CRC32C      string `json:"crc32c"`
}

const (
	promiseName    = "promise"
	promiseVersion = 1
)

// checksum is that of the fields before it.
func (f promiseFile) checksum() string {
	sum := crc32.Checksum(fmt.Appendf(nil, "%d\n%s\n%s\n", f.Version, f.Name, f.Incarnation), crc32.MakeTable(crc32.Castagnoli))
	return fmt.Sprintf("%08x", sum)
}

// keepPromise has a data directory remember which node's cluster its own node
// waits for; zero takes the promise back.
func keepPromise(dir string, promised quorate.NodeID) error {
	f := promiseFile{Version: promiseVersion}
	if promised != (quorate.NodeID{}) {
		f.Name, f.Incarnation = promised.Name, promised.Incarnation.String()
	}
	f.CRC32C = f.checksum()
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, promiseName), append(data, '\n'))
}

// readPromise returns what a data directory remembers; zero is nothing.
func readPromise(dir string) (promised quorate.NodeID, err error) {
	path := filepath.Join(dir, promiseName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return quorate.NodeID{}, nil
	}
	if err == nil {
		promised, err = decodePromise(data)
	}
	if err != nil {
		return quorate.NodeID{}, fmt.Errorf("promise file %s: %w; a node that is in no cluster yet has nothing to lose, and can be begun anew on an empty directory", path, err)
	}
	return promised, nil
}

func decodePromise(data []byte) (promised quorate.NodeID, err error) {
	var f promiseFile
	if err := json.Unmarshal(data, &f); err != nil {
		return quorate.NodeID{}, err
	}
	switch {
	case f.Version != promiseVersion:
		return quorate.NodeID{}, fmt.Errorf("version %d is not known to this binary (it knows %d)", f.Version, promiseVersion)
	case f.CRC32C != f.checksum():
		return quorate.NodeID{}, fmt.Errorf("checksum is %s, want %s", f.CRC32C, f.checksum())
	case f.Name == "" && f.Incarnation == "":
		return quorate.NodeID{}, nil
	case f.Name == "":
		return quorate.NodeID{}, errors.New("the node that it is given to has no name")
	}
	incarnation, err := quorate.ParseIncarnation(f.Incarnation)
	if err != nil {
		return quorate.NodeID{}, err
	}
	return quorate.NodeID{Name: f.Name, Incarnation: incarnation}, nil
}

// forgetPromise drops the promise of a node that is in a cluster.
func forgetPromise(dir string) error {
	err := os.Remove(filepath.Join(dir, promiseName))
	if err == nil || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
