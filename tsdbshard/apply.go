package tsdbshard

import (
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
	"github.com/quorate/quorate/tsdbshard/chunk"
)

// ApplyBatch applies committed entries in order. results[i][k] answers command
// k of entries[i]: a *wire.BatchResult for a write, a *BoundsResult for a
// bounds command, a *DeleteResult for a delete, a *SealResult for a seal.
// Entries at or below the manifest's index have no results.
//
// An error (corrupt bytes, a kind that this version does not know) stops the
// shard for good: the entry at fault and all after it are not applied.
func (s *Shard) ApplyBatch(entries []quorate.LogEntry) ([][]any, error) {
	if s.broken != nil {
		return nil, fmt.Errorf("apply to shard of set %v: %w", s.cfg.Set, s.broken)
	}
	results := make([][]any, len(entries))
	for i := range entries {
		r, err := s.applyEntry(&entries[i])
		if err != nil {
			s.broken = fmt.Errorf("apply entry %d: %w", entries[i].Index, err)
			return nil, s.broken
		}
		results[i] = r
	}
	return results, nil
}

func (s *Shard) applyEntry(e *quorate.LogEntry) ([]any, error) {
	st := s.st
	if e.Index <= st.loadedIndex {
		return nil, nil // PROTOCOL 21
	}
	if e.Index <= st.applied {
		return nil, fmt.Errorf("out of turn: entry %d is applied already", st.applied)
	}
	entry, err := s.decoder.Decode(e.Data)
	if err != nil {
		return nil, err
	}
	var results []any
	switch entry.Kind {
	case wire.KindWrite:
		results, err = s.applyWrites(e.Index, entry.Commands)
	case wire.KindBounds:
		results, err = s.applyBounds(e.Index, entry.Commands)
	case wire.KindSeal:
		results, err = s.applySeals(e.Index, entry.Commands)
	case wire.KindDelete:
		results, err = s.applyDeletes(e.Index, entry.Commands)
	case wire.KindActivate, wire.KindMeta:
		err = fmt.Errorf("%w: %d is not for this version of the shard", wire.ErrUnknownKind, entry.Kind)
	default:
		err = fmt.Errorf("%w: %d", wire.ErrUnknownKind, entry.Kind)
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

func (s *Shard) applyBounds(index uint64, commands [][]byte) ([]any, error) {
	wanted := make([]quorate.Bounds, len(commands))
	for k, c := range commands {
		var err error
		if wanted[k], err = decodeBoundsCommand(c); err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	results := make([]any, len(commands))
	for k := range wanted {
		results[k] = s.st.changeBounds(index, wanted[k])
	}
	s.st.advance(index)
	return results, nil
}

func (s *Shard) applyWrites(index uint64, commands [][]byte) ([]any, error) {
	for len(s.batches) < len(commands) {
		s.batches = append(s.batches, wire.Batch{})
	}
	for k, c := range commands {
		if err := s.batches[k].Decode(c); err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
	}
	batches := s.batches[:len(commands)]
	s.histograms = decodeHistograms(s.histograms[:0], batches)
	// Only the room is kept: histograms are many times as large as their bytes.
	defer clear(s.histograms)
	decoded := s.histograms
	results := make([]any, len(commands))
	var counts applyCounters
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.st.live.full() {
		s.st.freezeLive()
	}
	before := s.st.table.next
	for k := range batches {
		n := len(batches[k].Histograms)
		w := batchWriter{st: s.st, batch: &batches[k], decoded: decoded[:n], refs: s.refs[:0]}
		decoded = decoded[n:]
		err := w.apply()
		s.refs = w.refs
		if err != nil {
			return nil, fmt.Errorf("command %d: %w", k, err)
		}
		counts.addResult(&w.result)
		counts.outOfOrder += w.outOfOrder
		s.st.liveSamples += uint64(w.result.Floats + w.result.Histograms - w.result.Duplicates)
		if w.result.Floats+w.result.Histograms+w.result.Exemplars > w.result.Duplicates {
			s.st.lastWrite = index
		}
		results[k] = &w.result
	}
	s.st.advance(index)
	s.setMemcacheBytes(s.st.memcacheBytes())
	counts.addTo(s.metrics)
	s.metrics.series.Add(float64(s.st.table.next - before))
	return results, nil
}

// batchWriter judges and applies one batch.
type batchWriter struct {
	st    *state
	batch *wire.Batch
	// decoded are the batch's histograms; without one where its bytes are bad.
	decoded []sample
	tenant  *tenant
	refs    []uint32 // of the batch's definitions
	result  wire.BatchResult

	outOfOrder int
	mint, maxt int64 // of the samples stored; mint > maxt while there are none
}

func (w *batchWriter) apply() error {
	w.result.Version = w.st.bounds.Version
	w.result.Status = w.judge()
	if w.result.Status != wire.BatchApplied {
		return nil
	}
	w.tenant = w.st.table.tenant(w.batch.Tenant)
	w.st.touchTenant(w.tenant)
	if err := w.define(); err != nil {
		return err
	}
	info := emptyTenantInfo()
	w.mint, w.maxt = info.mint, info.maxt
	if err := w.floats(); err != nil {
		return err
	}
	if err := w.histograms(); err != nil {
		return err
	}
	w.exemplars()
	w.metadata()
	if w.mint <= w.maxt {
		w.tenant.info.add(w.mint, w.maxt)
	}
	return nil
}

// judge looks at the whole batch before any of it is applied (PROTOCOL 5, 20).
func (w *batchWriter) judge() wire.BatchStatus {
	b := w.batch
	switch {
	case w.st.bounds.State == quorate.SetSealed:
		return wire.BatchSealed
	case b.Version != w.st.bounds.Version:
		return wire.BatchStaleRoute
	}
	tn := w.st.table.byID[b.Tenant]
	for _, rows := range [3][]wire.RowSeries{b.Series, b.HistogramSeries, b.ExemplarSeries} {
		for _, row := range rows {
			if _, ok := row.Definition(); ok {
				continue
			}
			ref := uint32(row.Ref())
			if ref >= w.st.table.next || tn == nil || w.st.table.tenantOf(ref) != tn.index {
				return wire.BatchUnknownRef
			}
		}
	}
	return wire.BatchApplied
}

func (w *batchWriter) define() error {
	if len(w.batch.Definitions) == 0 {
		return nil
	}
	w.result.Defined = make([]wire.SeriesRef, len(w.batch.Definitions))
	for i, canonical := range w.batch.Definitions {
		ref, isNew, err := w.st.table.define(w.tenant, canonical)
		if err != nil {
			return err
		}
		if isNew {
			w.tenant.info.series++
		}
		w.refs = append(w.refs, ref)
		w.result.Defined[i] = wire.SeriesRef(ref)
	}
	return nil
}

func (w *batchWriter) ref(row wire.RowSeries) uint32 {
	if i, ok := row.Definition(); ok {
		return w.refs[i]
	}
	return uint32(row.Ref())
}

// verdict is what Apply decides about a row.
type verdict uint8

const (
	inOrder verdict = iota
	late            // older than the series' newest sample
	duplicate
	refused // and counted
)

// judgeSample decides about a sample by the bounds and by its series' newest
// sample alone. Both are logical state, so every replica decides the same,
// whatever it has in memory.
func (w *batchWriter) judgeSample(section wire.Section, row int, newest, s *newestSample) verdict {
	switch {
	case !w.inBounds(section, row, s.time):
		return refused
	case newest.kind == kindNone || s.time > newest.time:
		w.stored(s.time)
		return inOrder
	case s.time < newest.time:
		w.stored(s.time)
		w.outOfOrder++
		return late
	case s.bits == newest.bits && s.start == newest.start && s.kind == newest.kind:
		w.result.Duplicates++
		return duplicate
	}
	w.refuse(section, row, wire.RowConflict)
	return refused
}

func (w *batchWriter) inBounds(section wire.Section, row int, t int64) bool {
	if w.st.bounds.Range.Contains(t) {
		return true
	}
	w.result.OutOfBounds++
	w.refuse(section, row, wire.RowOutOfBounds)
	return false
}

func (w *batchWriter) refuse(section wire.Section, row int, reason wire.RowReason) {
	if w.result.Refused == 0 {
		w.result.First = wire.RefusedRow{Section: section, Row: row, Reason: reason}
	}
	w.result.Refused++
}

func (w *batchWriter) stored(t int64) {
	if w.mint > w.maxt {
		w.mint, w.maxt = t, t
		return
	}
	w.mint, w.maxt = min(w.mint, t), max(w.maxt, t)
}

func (w *batchWriter) floats() error {
	b, live := w.batch, w.st.live
	for i, row := range b.Series {
		ref := w.ref(row)
		s := newestSample{time: b.Timestamps[i], bits: math.Float64bits(b.Values[i]), kind: kindFloat}
		if len(b.StartTimestamps) > 0 {
			s.start = b.StartTimestamps[i]
		}
		newest := w.st.table.newestOf(ref)
		var err error
		switch w.judgeSample(wire.SectionFloats, i, &newest, &s) {
		case inOrder:
			w.st.table.setNewest(ref, &s)
			live.appendFloat(ref, &newest, &s)
		case late:
			err = live.addOutOfOrder(ref, outOfOrderSample{t: s.time, st: s.start, v: b.Values[i]})
		case refused:
			continue
		case duplicate:
		}
		if err != nil {
			return fmt.Errorf("float row %d: %w", i, err)
		}
		w.result.Floats++
	}
	return nil
}

func (w *batchWriter) histograms() error {
	b, live := w.batch, w.st.live
	for i, row := range b.HistogramSeries {
		ref := w.ref(row)
		encoded, decoded := b.Histograms[i], w.decoded[i]
		s := newestSample{time: b.HistogramTimestamps[i], bits: xxhash.Sum64(encoded), kind: kindHistogram}
		if len(b.HistogramStartTimestamps) > 0 {
			s.start = b.HistogramStartTimestamps[i]
		}
		// Bad bytes are a refusal whatever the verdict would be, so that all
		// replicas find them out alike, and not an error: a set that stopped
		// over them would stop again at every replay of its log.
		if decoded.H == nil && decoded.FH == nil {
			w.refuse(wire.SectionHistograms, i, wire.RowInvalid)
			continue
		}
		decoded.T, decoded.ST = s.time, s.start
		newest := w.st.table.newestOf(ref)
		var err error
		switch w.judgeSample(wire.SectionHistograms, i, &newest, &s) {
		case inOrder:
			w.st.table.setNewest(ref, &s)
			err = live.appendHistogram(ref, decoded, s.bits)
		case late:
			err = live.addOutOfOrder(ref, outOfOrderSample{t: s.time, st: s.start, histogram: encoded})
		case refused:
			continue
		case duplicate:
		}
		if err != nil {
			return fmt.Errorf("histogram row %d: %w", i, err)
		}
		w.result.Histograms++
	}
	return nil
}

// decodeHistograms decodes the histograms of batches, in order. Bad bytes give
// a sample without a histogram.
func decodeHistograms(dst []sample, batches []wire.Batch) []sample {
	for k := range batches {
		for _, encoded := range batches[k].Histograms {
			s, err := decodeHistogram(encoded)
			if err != nil {
				s = sample{}
			}
			dst = append(dst, s)
		}
	}
	return dst
}

func decodeHistogram(encoded []byte) (s sample, err error) {
	if s.H, s.FH, err = wire.DecodeHistogram(encoded); err != nil {
		return s, err
	}
	return s, chunk.CheckHistogram(&s)
}

// exemplars stores exemplars. One that is there already counts as stored but
// not as a duplicate: whether this memcache has it depends on the last flush.
func (w *batchWriter) exemplars() {
	b := w.batch
	for i, row := range b.ExemplarSeries {
		t := b.ExemplarTimestamps[i]
		if !w.inBounds(wire.SectionExemplars, i, t) {
			continue
		}
		w.st.live.addExemplar(w.ref(row), exemplarRow{t: t, bits: math.Float64bits(b.ExemplarValues[i]), labels: b.ExemplarLabels[i]})
		w.result.Exemplars++
	}
}

func (w *batchWriter) metadata() {
	for _, m := range w.batch.Metadata {
		if w.st.setMetadata(w.tenant, m) {
			w.st.live.metadata = append(w.st.live.metadata, metadataChange{tenant: w.tenant.id, entry: m})
			w.st.live.bytes += int64(64 + len(m.Family) + len(m.Type) + len(m.Unit) + len(m.Help))
			w.st.live.dirty = true
		}
	}
}
