package remote

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/common/model"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// metadataItem is one entry of metadata that a request carries.
type metadataItem struct {
	family, help, unit []byte
	kind               model.MetricType
	hash               uint64
}

// metadataRefs is a Metadata message of RW 2.0.
type metadataRefs struct {
	kind       int32
	help, unit uint32
}

// metadataTuple is what distinguishes one entry of metadata from another
// within one RW 2.0 request.
type metadataTuple struct {
	refs metadataRefs
	name uint32
}

// metadataList collects the metadata of a request, for the metadata cache to
// tell what of it is new.
type metadataList struct {
	items []metadataItem
	// recent holds tuples met in this request, each in the one place that
	// its numbers give it: the series of a family come one after the other.
	recent [256]metadataTuple
	used   bool // recent is not all zero
	// lastMessage is a Metadata message of RW 2.0, lastRefs what it says.
	lastMessage []byte
	lastRefs    metadataRefs
	// fresh holds the cache keys of what the cache did not know.
	fresh []uint64
}

func (l *metadataList) reset() {
	if l.used {
		l.recent, l.used = [256]metadataTuple{}, false
	}
	clear(l.items)
	l.lastMessage, l.lastRefs = nil, metadataRefs{}
	l.items, l.fresh = l.items[:0], l.fresh[:0]
}

// parse reads a Metadata message of RW 2.0. A message that comes in parts is
// merged, as protobuf has it.
func (r *metadataRefs) parse(b []byte) error {
	for len(b) > 0 {
		f, num, n := nextField(b)
		if n == 0 {
			return errMalformed
		}
		b = b[n:]
		switch f.number {
		case v2MetadataType:
			r.kind = int32(num)
		case v2MetadataHelpRef:
			r.help = uint32(num)
		case v2MetadataUnitRef:
			r.unit = uint32(num)
		default:
			continue
		}
		if f.wire != wireVarint {
			return errMalformed
		}
	}
	return nil
}

// parse reads a series' Metadata message. Neighbours share theirs, to the
// byte, which is cheaper to see than to parse.
func (l *metadataList) parse(r *metadataRefs, b []byte) error {
	if *r != (metadataRefs{}) { // came in parts
		return r.parse(b)
	}
	if l.lastMessage != nil && bytes.Equal(b, l.lastMessage) {
		*r = l.lastRefs
		return nil
	}
	err := r.parse(b)
	l.lastMessage, l.lastRefs = b, *r
	return err
}

// text returns a symbol, or nothing for a ref that is not in the table.
func (q *request) text(ref uint32) []byte {
	if int64(ref) >= int64(len(q.symbols)) {
		return nil
	}
	return q.symbols[ref].text
}

// metadataIsThere tells whether a Metadata message says anything.
func (q *request) metadataIsThere(r metadataRefs) bool {
	return r.kind != 0 || len(q.text(r.help)) > 0 || len(q.text(r.unit)) > 0
}

// addMetadataV2 adds a series' metadata unless this request had it before.
func (q *request) addMetadataV2(s *seriesV2) {
	if s.metadata == (metadataRefs{}) || !s.named {
		return
	}
	t := metadataTuple{refs: s.metadata, name: s.names}
	slot := &q.metadata.recent[(t.name*31+t.refs.help)%uint32(len(q.metadata.recent))]
	if *slot == t {
		return
	}
	if !q.metadataIsThere(s.metadata) {
		return
	}
	name := q.text(s.names)
	if checkFamily(name, q.limits) != "" {
		return // the series is refused for its labels
	}
	*slot, q.metadata.used = t, true
	kind := metricTypeOf(s.metadata.kind)
	q.metadata.items = append(q.metadata.items, metadataItem{
		family: familyName(name, kind), help: q.text(s.metadata.help), unit: q.text(s.metadata.unit), kind: kind,
		hash: q.hasher.metadataSymbols(q, t),
	})
}

// metadataBytes hashes a MetricMetadata message of RW 1.0.
func (h *hasher) metadataBytes(b []byte) uint64 { return maphash.Bytes(h.metadata, b) }

// metadataSymbols hashes an entry of RW 2.0 metadata.
func (h *hasher) metadataSymbols(q *request, t metadataTuple) uint64 {
	var help, unit symbolHash
	if int64(t.refs.help) < int64(len(q.symbols)) {
		help = q.symbols[t.refs.help].hash
	}
	if int64(t.refs.unit) < int64(len(q.symbols)) {
		unit = q.symbols[t.refs.unit].hash
	}
	k := h.mix(h.startSeries(), q.symbols[t.name].hash, help)
	return fold(k.Hi^unit.b, k.Lo^uint64(uint32(t.refs.kind)))
}

// metricTypeOf names a metric's type: both versions number them alike. Numbers
// from the future are unknown types.
func metricTypeOf(kind int32) model.MetricType {
	switch kind {
	case 1:
		return model.MetricTypeCounter
	case 2:
		return model.MetricTypeGauge
	case 3:
		return model.MetricTypeHistogram
	case 4:
		return model.MetricTypeGaugeHistogram
	case 5:
		return model.MetricTypeSummary
	case 6:
		return model.MetricTypeInfo
	case 7:
		return model.MetricTypeStateset
	default:
		return model.MetricTypeUnknown
	}
}

// familyName gives the family of a metric: for the types whose families have
// several metrics, the name without the suffix that tells these apart.
func familyName(name []byte, kind model.MetricType) []byte {
	var suffixes []string
	switch kind {
	case model.MetricTypeHistogram:
		suffixes = []string{"_bucket", "_count", "_sum"}
	case model.MetricTypeGaugeHistogram:
		suffixes = []string{"_bucket", "_gcount", "_gsum", "_count", "_sum"}
	case model.MetricTypeSummary:
		suffixes = []string{"_count", "_sum"}
	default:
		return name
	}
	for _, s := range suffixes {
		if family, found := bytes.CutSuffix(name, []byte(s)); found && len(family) > 0 {
			return family
		}
	}
	return name
}

// checkFamily returns the rule that a family's name breaks, or nothing.
func checkFamily(family []byte, limits LabelLimits) string {
	switch {
	case len(family) == 0:
		return "its name is empty"
	case len(family) > limits.MaxValueBytes:
		return fmt.Sprintf("its name has %d bytes, over the limit of %d", len(family), limits.MaxValueBytes)
	case !utf8.Valid(family):
		return "its name is not valid UTF-8"
	}
	return ""
}

// metadata makes the entry that is stored. Help and unit are for people, so
// they are mended and cut where a name would be refused.
func (i metadataItem) metadata(limits LabelLimits) wire.Metadata {
	return wire.Metadata{
		Family: string(i.family), Type: string(i.kind),
		Unit: readableText(i.unit, limits.MaxValueBytes), Help: readableText(i.help, limits.MaxValueBytes),
	}
}

func readableText(text []byte, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(string(text), "")
}

// metadataCache remembers which metadata was stored lately, so that what every
// RW 2.0 series repeats in every request is stored once. It forgets everything
// within two periods: a new bucket then gets to know it, and a family that
// flips between two texts, as two jobs may make it, settles on either.
//
// It keys on the entry (tenant, metric name, type, unit, help), not on the
// series: a hundred series share one entry of 8 bytes.
type metadataCache struct {
	period  time.Duration
	entries int // bounds each generation

	mu      sync.Mutex
	current map[uint64]struct{}
	last    map[uint64]struct{}
	began   time.Time // when current began
}

const (
	metadataPeriod  = 30 * time.Minute
	metadataEntries = 64 << 10
)

func newMetadataCache(period time.Duration, entries int) *metadataCache {
	return &metadataCache{period: period, entries: entries, current: map[uint64]struct{}{}}
}

// selectNew moves those entries of a request's metadata that the cache does
// not know into its columns, and notes their keys.
func (c *metadataCache) selectNew(now time.Time, tenant quorate.TenantID, q *request) {
	if len(q.metadata.items) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.began) >= c.period || len(c.current) >= c.entries {
		c.last, c.current, c.began = c.current, make(map[uint64]struct{}, len(c.current)), now
	}
	for _, item := range q.metadata.items {
		key := fold(item.hash^q.hasher.start[0], uint64(tenant)^q.hasher.step[1])
		if _, known := c.current[key]; known {
			continue
		}
		if _, known := c.last[key]; known {
			continue
		}
		q.Metadata = append(q.Metadata, item.metadata(q.limits))
		q.metadata.fresh = append(q.metadata.fresh, key)
	}
}

// stored notes that what selectNew selected was stored.
func (c *metadataCache) stored(q *request) {
	if len(q.metadata.fresh) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range q.metadata.fresh {
		c.current[key] = struct{}{}
	}
}
