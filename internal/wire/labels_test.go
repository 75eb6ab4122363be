package wire

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/quorate/quorate"
)

func TestLabelsComeBackAsTheyWent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := anyLabels.Draw(t, "labels")
		require.NoError(t, CheckLabels(l))
		var again []byte
		for it := IterLabels(l); it.Next(); {
			again = AppendLabel(again, string(it.Name()), string(it.Value()))
		}
		require.Equal(t, l, again)
		cut := rapid.IntRange(0, len(l)-1).Draw(t, "cut")
		if err := CheckLabels(l[:cut]); err == nil {
			// A cut between labels is a smaller set, never this one.
			require.NotEqual(t, ShardHash(1, l), ShardHash(1, l[:cut]))
		}
	})
}

// TestProtocol12ShardHashGoldenVectors holds the hash that places series to the vectors
// of testdata/shardhash.txt, which docs/format/entry.md publishes. They may
// never change: data lies where they say (PROTOCOL 12).
func TestProtocol12ShardHashGoldenVectors(t *testing.T) {
	f, err := os.Open("testdata/shardhash.txt")
	require.NoError(t, err)
	defer f.Close()
	vectors := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		tenant, hash, canonical := parseVector(t, line)
		require.NoError(t, CheckLabels(canonical))
		require.Equal(t, hash, fmt.Sprintf("%016x", ShardHash(tenant, canonical)), line)
		vectors++
	}
	require.Equal(t, 8, vectors)
}

// parseVector reads a line of tenant, hash and name=value pairs quoted as Go strings.
func parseVector(t *testing.T, line string) (quorate.TenantID, string, []byte) {
	t.Helper()
	fields := strings.SplitN(line, " ", 3)
	require.Len(t, fields, 3)
	tenant, err := strconv.ParseUint(fields[0], 10, 64)
	require.NoError(t, err)
	var canonical []byte
	for rest := fields[2]; rest != ""; {
		var pair [2]string
		for i := range pair {
			quoted, err := strconv.QuotedPrefix(rest)
			require.NoError(t, err)
			pair[i], err = strconv.Unquote(quoted)
			require.NoError(t, err)
			rest = strings.TrimLeft(rest[len(quoted):], "= ")
		}
		canonical = AppendLabel(canonical, pair[0], pair[1])
	}
	return quorate.TenantID(tenant), fields[1], canonical
}
