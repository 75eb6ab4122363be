package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
)

var someResults = map[string]*BatchResult{
	"010100000000000" + "0":               {Status: BatchApplied, Version: 1},
	"0402000000000000":                    {Status: BatchSealed, Version: 2},
	"01030201000102010105010207" + "ac02": {Status: BatchApplied, Version: 3, Floats: 2, Histograms: 1, Duplicates: 1, Refused: 2, OutOfBounds: 1, First: RefusedRow{SectionFloats, 5, RowConflict}, Defined: []SeriesRef{7, 300}},
}

func TestBatchResultsReadBack(t *testing.T) {
	for want, r := range someResults {
		b := AppendBatchResult(nil, r)
		if got := hex.EncodeToString(b); got != want {
			t.Errorf("%+v is encoded as %s, want %s", r, got, want)
		}
		if back, err := DecodeBatchResult(b); err != nil || !reflect.DeepEqual(back, r) {
			t.Errorf("%s reads back as %+v, %v; want %+v", want, back, err, r)
		}
		for n := range b {
			if _, err := DecodeBatchResult(b[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("the first %d bytes of %s give %v, want ErrCorrupt", n, want, err)
			}
		}
	}
}

func FuzzDecodeBatchResult(f *testing.F) {
	for _, r := range someResults {
		f.Add(AppendBatchResult(nil, r))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeBatchResult(b)
		switch {
		case err != nil && !errors.Is(err, ErrCorrupt):
			t.Errorf("%v is no ErrCorrupt", err)
		case err == nil && !bytes.Equal(AppendBatchResult(nil, r), b):
			t.Errorf("%x encodes as %x", b, AppendBatchResult(nil, r))
		}
	})
}
