package router

import (
	"encoding/binary"
	"math"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
)

// window says of which view something is asked, and of which of its samples:
// those of a tenant in the closed range [Mint, Maxt], but not before Oldest (ms).
type window struct {
	View               uint64
	Tenant             quorate.TenantID
	Mint, Maxt, Oldest int64
}

func (w window) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, w.View)
	dst = binary.AppendUvarint(dst, uint64(w.Tenant))
	for _, t := range [...]int64{w.Mint, w.Maxt, w.Oldest} {
		dst = binary.AppendVarint(dst, t)
	}
	return dst
}

func readWindow(c *cursor.Cursor) window {
	return window{
		View: c.Uvarint(), Tenant: quorate.TenantID(c.Uvarint()),
		Mint: c.Varint(), Maxt: c.Varint(), Oldest: c.Varint(),
	}
}

func appendMatchers(dst []byte, matchers []*labels.Matcher) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(matchers)))
	for _, m := range matchers {
		dst = append(dst, byte(m.Type))
		dst = cursor.AppendBytes(cursor.AppendBytes(dst, m.Name), m.Value)
	}
	return dst
}

// readMatchers fails on a regular expression that does not compile.
func readMatchers(c *cursor.Cursor) (matchers []*labels.Matcher) {
	for range c.Count(3) {
		t, name, value := labels.MatchType(c.U8()), c.String(), c.String()
		if c.Bad || t > labels.MatchNotRegexp {
			c.Fail()
			return nil
		}
		m, err := labels.NewMatcher(t, name, value)
		if err != nil {
			c.Fail()
			return nil
		}
		matchers = append(matchers, m)
	}
	return matchers
}

// selectRequest asks for series with their samples.
type selectRequest struct {
	Window   window
	Hints    *storage.SelectHints // nil for none
	Matchers []*labels.Matcher
}

func (r selectRequest) encode() []byte {
	b := r.Window.append(beginMessage())
	if b = appendBool(b, r.Hints != nil); r.Hints != nil {
		b = appendSelectHints(b, r.Hints)
	}
	return appendMatchers(b, r.Matchers)
}

func decodeSelectRequest(b []byte) (r selectRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Window = readWindow(c)
	if readBool(c) {
		r.Hints = readSelectHints(c)
	}
	r.Matchers = readMatchers(c)
	return r, c.Finish(errMessage, "request for series")
}

func appendSelectHints(dst []byte, h *storage.SelectHints) []byte {
	dst = binary.AppendVarint(binary.AppendVarint(dst, h.Start), h.End)
	dst = binary.AppendUvarint(dst, uint64(max(h.Limit, 0)))
	dst = binary.AppendVarint(binary.AppendVarint(dst, h.Step), h.Range)
	dst = cursor.AppendBytes(dst, h.Func)
	dst = appendBool(appendStrings(dst, h.Grouping), h.By)
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, h.ShardCount), h.ShardIndex)
	dst = appendBool(dst, h.DisableTrimming)
	return appendBool(appendStrings(dst, h.ProjectionLabels), h.ProjectionInclude)
}

func readSelectHints(c *cursor.Cursor) *storage.SelectHints {
	return &storage.SelectHints{
		Start: c.Varint(), End: c.Varint(), Limit: readInt(c),
		Step: c.Varint(), Range: c.Varint(), Func: c.String(),
		Grouping: readStrings(c), By: readBool(c),
		ShardCount: c.Uvarint(), ShardIndex: c.Uvarint(),
		DisableTrimming:  readBool(c),
		ProjectionLabels: readStrings(c), ProjectionInclude: readBool(c),
	}
}

// labelsRequest asks for the values of the label Name, or for the names of all
// labels if it is empty.
type labelsRequest struct {
	Window   window
	Name     string
	Limit    int // 0 for none
	Matchers []*labels.Matcher
}

func (r labelsRequest) encode() []byte {
	b := cursor.AppendBytes(r.Window.append(beginMessage()), r.Name)
	return appendMatchers(binary.AppendUvarint(b, uint64(max(r.Limit, 0))), r.Matchers)
}

func decodeLabelsRequest(b []byte) (r labelsRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Window, r.Name, r.Limit = readWindow(c), c.String(), readInt(c)
	r.Matchers = readMatchers(c)
	return r, c.Finish(errMessage, "request for labels")
}

// exemplarsRequest asks for the exemplars of the series that match any of the
// matcher sets, in the window's range.
type exemplarsRequest struct {
	Window   window
	Matchers [][]*labels.Matcher
}

func (r exemplarsRequest) encode() []byte {
	b := binary.AppendUvarint(r.Window.append(beginMessage()), uint64(len(r.Matchers)))
	for _, set := range r.Matchers {
		b = appendMatchers(b, set)
	}
	return b
}

func decodeExemplarsRequest(b []byte) (r exemplarsRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Window = readWindow(c)
	for range c.Count(1) {
		r.Matchers = append(r.Matchers, readMatchers(c))
	}
	return r, c.Finish(errMessage, "request for exemplars")
}

// metadataRequest asks for the metadata of a family, or of all if it is empty.
type metadataRequest struct {
	Window window
	Family string
}

func (r metadataRequest) encode() []byte {
	return cursor.AppendBytes(r.Window.append(beginMessage()), r.Family)
}

func decodeMetadataRequest(b []byte) (r metadataRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Window, r.Family = readWindow(c), c.String()
	return r, c.Finish(errMessage, "request for metadata")
}

// statsRequest asks for the statistics of a tenant's series.
type statsRequest struct {
	Window window
	Label  string
	Limit  int
}

func (r statsRequest) encode() []byte {
	b := cursor.AppendBytes(r.Window.append(beginMessage()), r.Label)
	return binary.AppendUvarint(b, uint64(max(r.Limit, 0)))
}

func decodeStatsRequest(b []byte) (r statsRequest, err error) {
	c, err := openMessage(b)
	if err != nil {
		return r, err
	}
	r.Window, r.Label, r.Limit = readWindow(c), c.String(), readInt(c)
	return r, c.Finish(errMessage, "request for statistics")
}

// allTime is a window without bounds.
func allTime(view uint64, tenant quorate.TenantID) window {
	return window{View: view, Tenant: tenant, Mint: math.MinInt64, Maxt: math.MaxInt64, Oldest: math.MinInt64}
}
