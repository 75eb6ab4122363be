package router

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard"
)

// message is one kind of message: an example, and how it is encoded and decoded.
type message struct {
	name    string
	example []byte
	// again decodes bytes and encodes what came of them.
	again func(b []byte) ([]byte, error)
}

func messageOf[M interface{ encode() []byte }](name string, example M, decode func([]byte) (M, error)) message {
	return message{name, example.encode(), func(b []byte) ([]byte, error) {
		m, err := decode(b)
		if err != nil {
			return nil, err
		}
		return m.encode(), nil
	}}
}

func valueOf[V any](name string, example V, encode func(V) []byte, decode func([]byte) (V, error)) message {
	return message{name, encode(example), func(b []byte) ([]byte, error) {
		v, err := decode(b)
		if err != nil {
			return nil, err
		}
		return encode(v), nil
	}}
}

var someNode = quorate.NodeID{Name: "n2", Incarnation: quorate.Incarnation{15: 9}}

func messages() []message {
	matchers := []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"),
		labels.MustNewMatcher(labels.MatchNotRegexp, "job", "a|b"),
	}
	w := window{View: 300, Tenant: 2, Mint: -5, Maxt: math.MaxInt64, Oldest: math.MinInt64}
	refused := &refusal{Leader: someNode, Retriable: true, Kind: quorate.Unavailable, RetryAfter: 2 * time.Second, Text: "no"}
	deletion := wire.Deletion{Tenant: 2, MinTime: 1, MaxTime: 9, Matchers: matchers}
	return []message{
		messageOf("request to a set", setRequest{Set: 300, Command: []byte("abc")}, decodeSetRequest),
		messageOf("outcome", outcome{Payload: []byte("abc")}, decodeOutcome),
		messageOf("refused outcome", outcome{Refusal: refused}, decodeOutcome),
		messageOf("request for views", pinRequest{Sets: []pinOf{
			{Set: 7, Mode: pinConfirmed}, {Set: 300, Mode: pinFile, Deletions: []wire.NumberedDeletion{{ID: 4, Deletion: deletion}}},
		}}, decodePinRequest),
		messageOf("answer with a view", pinAnswer{Position: 1, View: 300, Lag: lag{stale: true, known: true, entries: 7}}, decodePinAnswer),
		messageOf("answer without", pinAnswer{Refusal: &refusal{Kind: quorate.Internal, Text: "damaged"}}, decodePinAnswer),
		messageOf("request for series", selectRequest{Window: w, Matchers: matchers, Hints: &storage.SelectHints{
			Start: 1, End: 2, Limit: 3, Step: 4, Func: "rate", Grouping: []string{"a"}, By: true, Range: 5,
			ShardCount: 6, ShardIndex: 1, DisableTrimming: true, ProjectionLabels: []string{"b", "c"}, ProjectionInclude: true,
		}}, decodeSelectRequest),
		messageOf("request without hints", selectRequest{Window: w}, decodeSelectRequest),
		messageOf("request for labels", labelsRequest{Window: w, Name: "job", Limit: 3, Matchers: matchers}, decodeLabelsRequest),
		messageOf("request for exemplars", exemplarsRequest{Window: w, Matchers: [][]*labels.Matcher{matchers, nil}}, decodeExemplarsRequest),
		messageOf("request for metadata", metadataRequest{Window: w, Family: "m"}, decodeMetadataRequest),
		messageOf("request for statistics", statsRequest{Window: w, Label: "job", Limit: 10}, decodeStatsRequest),
		valueOf("metadata", map[string]metadata.Metadata{"a": {Type: "counter", Unit: "s", Help: "h"}, "b": {}}, encodeMetadata, decodeMetadata),
		valueOf("statistics", &tsdb.Stats{NumSeries: 3, MinTime: -1, MaxTime: 5, IndexPostingStats: &index.PostingsStats{
			CardinalityMetricsStats: []index.Stat{{Name: "m", Count: 3}}, LabelValuePairsStats: []index.Stat{{Name: "a=b", Count: 1}}, NumLabelPairs: 4,
		}}, encodeStats, decodeStats),
		valueOf("deletion", &tsdbshard.DeleteResult{Sealed: true, Series: 300},
			func(r *tsdbshard.DeleteResult) []byte { return appendDeleteResult(nil, r) }, decodeDeleteResult),
		valueOf("exemplars", exemplar.QueryResult{
			SeriesLabels: labels.FromStrings("__name__", "m", "x", ""),
			Exemplars:    []exemplar.Exemplar{{Labels: labels.FromStrings("trace", "1"), Value: math.Inf(1), Ts: -4, HasTs: true}},
		}, func(r exemplar.QueryResult) []byte { return appendExemplars(nil, &r) }, decodeOneExemplars),
	}
}

func decodeOneExemplars(b []byte) (exemplar.QueryResult, error) {
	c := &cursor.Cursor{B: b, Shortest: true}
	r := readExemplars(c)
	return r, c.Finish(errMessage, "exemplars")
}

func TestMessagesReadBack(t *testing.T) {
	for _, m := range messages() {
		if again, err := m.again(m.example); err != nil || !bytes.Equal(again, m.example) {
			t.Errorf("%s: %x reads back as %x, %v", m.name, m.example, again, err)
		}
		if _, err := m.again(append(slices.Clone(m.example), 0)); err == nil && m.name != "request to a set" && m.name != "outcome" {
			t.Errorf("%s: a byte too many is taken", m.name)
		}
		if m.name == "deletion" || m.name == "exemplars" {
			continue // parts of messages
		}
		next := append([]byte{messageVersion + 1}, m.example[1:]...)
		if _, err := m.again(next); !errors.Is(err, errVersion) {
			t.Errorf("%s of the next version gives %v", m.name, err)
		}
	}
}

// What docs/format/rpc.md shows.
func TestMessagesHaveTheirBytes(t *testing.T) {
	want := map[string]string{
		"request to a set":       "01ac02616263",
		"outcome":                "0101616263",
		"refused outcome":        "0102010102" + "6e32" + "00000000000000000000000000000009" + "06d00f026e6f",
		"answer with a view":     "010101ac02010107",
		"request for metadata":   "01ac020209feffffffffffffffff01ffffffffffffffffff01016d",
		"request for statistics": "01ac020209feffffffffffffffff01ffffffffffffffffff01036a6f620a",
		"deletion":               "01ac02",
	}
	for _, m := range messages() {
		if w, ok := want[m.name]; ok && hex.EncodeToString(m.example) != w {
			t.Errorf("%s is %x, want %s", m.name, m.example, w)
		}
	}
}

// What was sent in a request for series is all of what upstream's hints have.
func TestAllSelectHintsTravel(t *testing.T) {
	var hints storage.SelectHints
	v := reflect.ValueOf(&hints).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Int, reflect.Int64:
			f.SetInt(int64(i + 1))
		case reflect.Uint64:
			f.SetUint(uint64(i + 1))
		case reflect.String:
			f.SetString("f")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"a"}))
		default:
			t.Fatalf("hint %s is of a new kind", v.Type().Field(i).Name)
		}
	}
	got, err := decodeSelectRequest(selectRequest{Hints: &hints}.encode())
	if err != nil || !reflect.DeepEqual(got.Hints, &hints) {
		t.Errorf("hints %+v, %v; want %+v", got.Hints, err, hints)
	}
}

// FuzzMessages decodes arbitrary bytes as each message: it fails, or what comes
// of it encodes to bytes that decode to the same.
func FuzzMessages(f *testing.F) {
	for i, m := range messages() {
		f.Add(i, m.example)
	}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		all := messages()
		m := all[uint(kind)%uint(len(all))]
		again, err := m.again(b)
		if err != nil {
			if !errors.Is(err, errMessage) && !errors.Is(err, errVersion) {
				t.Errorf("%s: %v is neither errMessage nor errVersion", m.name, err)
			}
			return
		}
		if twice, err := m.again(again); err != nil || !bytes.Equal(twice, again) {
			t.Errorf("%s: %x encodes as %x, and that as %x, %v", m.name, b, again, twice, err)
		}
	})
}
