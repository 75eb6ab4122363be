package wire

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"github.com/quorate/quorate"
)

func testDeletion() Deletion {
	return Deletion{
		Tenant: 7, MinTime: -5, MaxTime: 1 << 60,
		Matchers: []*labels.Matcher{
			labels.MustNewMatcher(labels.MatchEqual, "job", "a"),
			labels.MustNewMatcher(labels.MatchNotEqual, "job", ""),
			labels.MustNewMatcher(labels.MatchRegexp, "été", "a.*|b+"),
			labels.MustNewMatcher(labels.MatchNotRegexp, "x", "(?i)y"),
		},
	}
}

func testSeal() Seal {
	return Seal{
		Intent:    9,
		Horizons:  []Horizon{{Tenant: 1, Oldest: -3}, {Tenant: 4, Oldest: 1 << 50}},
		Deletions: []NumberedDeletion{{ID: 2, Deletion: testDeletion()}, {ID: 3, Deletion: testDeletion()}},
	}
}

func matcherStrings(d Deletion) (all []string) {
	for _, m := range d.Matchers {
		all = append(all, m.String())
	}
	return all
}

func TestADeletionComesBackAsItWas(t *testing.T) {
	want := testDeletion()
	got, err := DecodeDeletion(want.Append(nil))
	require.NoError(t, err)
	require.Equal(t, matcherStrings(want), matcherStrings(got))
	want.Matchers, got.Matchers = nil, nil
	require.Equal(t, want, got)
}

func TestADeletionIsCheckedBeforeItIsProposed(t *testing.T) {
	for _, tc := range []struct {
		says   string
		change func(*Deletion)
	}{
		{"start 1970-01-01T00:00:00.002Z is after end", func(d *Deletion) { d.MinTime, d.MaxTime = 2, 1 }},
		{"0 matchers are not between 1 and 64", func(d *Deletion) { d.Matchers = nil }},
		{"65 matchers are not between 1 and 64", func(d *Deletion) {
			for len(d.Matchers) < 65 {
				d.Matchers = append(d.Matchers, d.Matchers[0])
			}
		}},
		{"over the limit of 65536", func(d *Deletion) {
			d.Matchers = append(d.Matchers, labels.MustNewMatcher(labels.MatchEqual, "a", strings.Repeat("x", 1<<16)))
		}},
	} {
		d := testDeletion()
		tc.change(&d)
		err := d.Check()
		require.ErrorContains(t, err, tc.says)
		require.Equal(t, quorate.Invalid, quorate.KindOf(err))
		_, err = DecodeDeletion(d.Append(nil))
		require.ErrorIs(t, err, ErrCorrupt)
	}
}

func TestASealComesBackAsItWas(t *testing.T) {
	want := testSeal()
	encoded := want.Append(nil)
	got, err := DecodeSeal(encoded)
	require.NoError(t, err)
	require.Equal(t, encoded, got.Append(nil))
	require.Equal(t, want.Intent, got.Intent)
	require.Equal(t, want.Horizons, got.Horizons)
	encoded[0]++
	_, err = DecodeSeal(encoded)
	require.ErrorIs(t, err, ErrUnknownVersion)
	_, err = DecodeSeal(want.Append(nil)[:20])
	require.ErrorIs(t, err, ErrCorrupt)
	want.Horizons[1].Tenant = 1
	_, err = DecodeSeal(want.Append(nil))
	require.ErrorIs(t, err, ErrCorrupt, "tenants rise")
}

func TestASealedFileComesBackAsItWas(t *testing.T) {
	want := SealedFile{Hash: [32]byte{1, 31: 2}, Bytes: 1 << 40, Series: 3, Samples: 1 << 50, MinTime: -4, MaxTime: 5}
	got, err := DecodeSealedFile(want.Append(nil))
	require.NoError(t, err)
	require.Equal(t, want, got)
	_, err = DecodeSealedFile(append(want.Append(nil), 0))
	require.ErrorIs(t, err, ErrCorrupt)
}

// FuzzLifecycleCommands decodes arbitrary bytes as each of the commands. What
// decodes is encoded to something that decodes alike.
func FuzzLifecycleCommands(f *testing.F) {
	d, s := testDeletion(), testSeal()
	file := SealedFile{Bytes: 1}
	f.Add(d.Append(nil))
	f.Add(s.Append(nil))
	f.Add(file.Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := DecodeDeletion(data); err == nil {
			require.NoError(t, d.Check())
			again, err := DecodeDeletion(d.Append(nil))
			require.NoError(t, err)
			require.Equal(t, d.Append(nil), again.Append(nil))
		} else {
			require.ErrorIs(t, err, ErrCorrupt)
		}
		if s, err := DecodeSeal(data); err == nil {
			again, err := DecodeSeal(s.Append(nil))
			require.NoError(t, err)
			require.Equal(t, s.Append(nil), again.Append(nil))
		} else {
			require.True(t, errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnknownVersion), "%v", err)
		}
		if file, err := DecodeSealedFile(data); err == nil {
			again, err := DecodeSealedFile(file.Append(nil))
			require.NoError(t, err)
			require.Equal(t, file, again)
		} else {
			require.ErrorIs(t, err, ErrCorrupt)
		}
	})
}
