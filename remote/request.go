package remote

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// metricName is the label that carries a series' metric name.
const metricName = "__name__"

// version is a version of the remote write protocol.
type version uint8

const (
	versionNone version = iota // not negotiated
	version1
	version2
)

// String prints the version as metrics label it.
func (v version) String() string {
	switch v {
	case version1:
		return "1.0"
	case version2:
		return "2.0"
	default:
		return "none"
	}
}

// messageName is the name of the version's protobuf message.
func (v version) messageName() string {
	if v == version2 {
		return "io.prometheus.write.v2.Request"
	}
	return "prometheus.WriteRequest"
}

// request is one remote write request being parsed, with all its scratch
// space; it is pooled. Everything that its columns alias lives in it or in the
// body, so it goes back to the pool only after the Appender has returned.
type request struct {
	wire.WriteRequest

	version version
	body    []byte // the decoded protobuf message
	hasher  *hasher
	limits  LabelLimits
	// maxHistogramBytes bounds one histogram's message.
	maxHistogramBytes int
	// rowsLeft counts down from Config.MaxRows.
	rowsLeft int

	// messages says where in body the message of Series[i] lies.
	messages []span
	symbols  []symbol
	// arena holds the encoded histograms and the exemplars' labels.
	arena []byte
	// gathered holds the label bytes of a series whose labels lie apart.
	gathered []byte
	pairs    []labelPair
	metadata metadataList

	refusals refusals
}

// span is a part of a request's body.
type span struct{ start, end uint32 }

// symbol is one entry of an RW 2.0 request's symbol table.
type symbol struct {
	text []byte
	hash symbolHash
}

// errTooManyRows stops the parsing of a request over Config.MaxRows.
var errTooManyRows = errors.New("too many rows")

// reset prepares the request for a body.
func (q *request) reset(v version, body []byte, maxRows int) {
	q.version, q.body, q.rowsLeft = v, body, maxRows
	q.Series, q.Timestamps, q.Values = q.Series[:0], q.Timestamps[:0], q.Values[:0]
	q.StartTimestamps = q.StartTimestamps[:0]
	q.Histograms, q.Exemplars, q.Metadata = q.Histograms[:0], q.Exemplars[:0], q.Metadata[:0]
	q.Labels = q
	q.messages, q.symbols, q.arena = q.messages[:0], q.symbols[:0], q.arena[:0]
	q.metadata.reset()
	q.refusals.reset()
}

// release drops what would keep a body or a request's strings alive in the
// pool, and scratch space that only an outsized request needed.
func (q *request) release() {
	clear(q.Histograms)
	clear(q.Exemplars)
	clear(q.Metadata)
	clear(q.symbols)
	clear(q.pairs[:cap(q.pairs)])
	q.body, q.metadata.lastMessage = nil, nil
	q.refusals.first = ""
	const keepRows, keepBytes = 64 << 10, 1 << 20
	dropOutsized(&q.Series, keepRows)
	dropOutsized(&q.Timestamps, keepRows)
	dropOutsized(&q.Values, keepRows)
	dropOutsized(&q.StartTimestamps, keepRows)
	dropOutsized(&q.Histograms, keepRows)
	dropOutsized(&q.Exemplars, keepRows)
	dropOutsized(&q.Metadata, keepRows)
	dropOutsized(&q.messages, keepRows)
	dropOutsized(&q.symbols, keepRows)
	dropOutsized(&q.arena, keepBytes)
	dropOutsized(&q.gathered, keepBytes)
	dropOutsized(&q.metadata.items, keepRows)
	dropOutsized(&q.metadata.fresh, keepRows)
}

func dropOutsized[T any](s *[]T, keep int) {
	if cap(*s) > keep {
		*s = nil
	}
}

// parse walks the body into the request's columns. Its error tells that the
// body as a whole cannot be taken: nothing of it may be written then. Series
// and rows that are refused one by one are in q.refusals.
func (q *request) parse() error {
	var at int
	var err error
	if q.version == version2 {
		at, err = q.parseV2()
	} else {
		at, err = q.parseV1()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooManyRows):
		return quorate.Errorf(quorate.TooLarge, "request holds more rows than the limit for one request; send it in parts")
	default:
		return quorate.Errorf(quorate.Invalid, "body does not decode as %s: bad protobuf in the field at byte %d of %d", q.version.messageName(), at, len(q.body))
	}
}

// errMalformed stops the parsing of bytes that are no such protobuf message.
var errMalformed = errors.New("malformed protobuf")

// takeRow counts a row, series or symbol against the limit.
func (q *request) takeRow() error {
	if q.rowsLeft--; q.rowsLeft < 0 {
		return errTooManyRows
	}
	return nil
}

// rows are the ends of a request's columns at some moment.
type rows struct{ floats, histograms, exemplars int }

func (q *request) rows() rows {
	return rows{len(q.Timestamps), len(q.Histograms), len(q.Exemplars)}
}

// dropRows takes back the rows added since.
func (q *request) dropRows(since rows) {
	q.Timestamps, q.Values = q.Timestamps[:since.floats], q.Values[:since.floats]
	if len(q.StartTimestamps) > since.floats {
		q.StartTimestamps = q.StartTimestamps[:since.floats]
	}
	q.Histograms, q.Exemplars = q.Histograms[:since.histograms], q.Exemplars[:since.exemplars]
}

// endSeries closes the series whose rows were added since, under its key.
func (q *request) endSeries(key wire.SeriesKey, message span) {
	now := q.rows()
	q.Series = append(q.Series, wire.RequestSeries{
		Key: key, FloatEnd: uint32(now.floats), HistogramEnd: uint32(now.histograms), ExemplarEnd: uint32(now.exemplars),
	})
	q.messages = append(q.messages, message)
}

func (q *request) addSample(b []byte) error {
	s, ok := parseSample(b)
	if !ok {
		return errMalformed
	}
	if err := q.takeRow(); err != nil {
		return err
	}
	if s.start != 0 && q.version == version2 || len(q.StartTimestamps) > 0 {
		q.addStart(s.start)
	}
	q.Timestamps = append(q.Timestamps, s.timestamp)
	q.Values = append(q.Values, s.value)
	return nil
}

// addStart adds a start timestamp for the sample about to be added. The column
// stays empty, which means all zero, until the first one comes.
func (q *request) addStart(start int64) {
	if missing := len(q.Timestamps) - len(q.StartTimestamps); missing > 0 {
		before := len(q.StartTimestamps)
		q.StartTimestamps = slices.Grow(q.StartTimestamps, missing)[:before+missing]
		clear(q.StartTimestamps[before:])
	}
	q.StartTimestamps = append(q.StartTimestamps, start)
}

// seriesRows counts the rows of Series[i].
func (q *request) seriesRows(i int) int {
	var start wire.RequestSeries
	if i > 0 {
		start = q.Series[i-1]
	}
	end := q.Series[i]
	return int(end.FloatEnd-start.FloatEnd) + int(end.HistogramEnd-start.HistogramEnd) + int(end.ExemplarEnd-start.ExemplarEnd)
}

// message returns the bytes of a series' message.
func (q *request) message(m span) []byte { return q.body[m.start:m.end] }

// refuseSeries records that a series was left out, with n rows.
func (q *request) refuseSeries(reason refusalReason, m span, n int, format string, args ...any) {
	q.refusals.add(reason, max(n, 1), func() string {
		return "series " + q.describe(m) + ": " + fmt.Sprintf(format, args...)
	})
}
