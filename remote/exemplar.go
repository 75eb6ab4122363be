package remote

import (
	"bytes"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"

	"github.com/quorate/quorate/internal/wire"
)

// exemplarRow is an exemplar without its labels.
type exemplarRow struct {
	timestamp int64
	value     float64
}

// addExemplar adds an exemplar, or refuses it for its labels. Those may come
// in any order and may be none; OpenMetrics bounds them at 128 characters.
func (q *request) addExemplar(m span, e exemplarRow, pairs []labelPair, refusedRows *int) error {
	slices.SortStableFunc(pairs, func(a, b labelPair) int { return bytes.Compare(a.name, b.name) })
	start, characters := len(q.arena), 0
	for i, p := range pairs {
		err := checkPair(p, q.limits)
		if err == nil && i > 0 && bytes.Equal(pairs[i-1].name, p.name) {
			err = fmt.Errorf("label %s is there twice", quoteShort(p.name))
		}
		if err != nil {
			q.arena = q.arena[:start]
			return q.refuseExemplar(m, refusedRows, err.Error())
		}
		if len(p.value) > 0 {
			characters += utf8.RuneCount(p.name) + utf8.RuneCount(p.value)
			q.arena = wire.AppendLabel(q.arena, p.name, p.value)
		}
	}
	if characters > exemplar.ExemplarMaxLabelSetLength {
		q.arena = q.arena[:start]
		return q.refuseExemplar(m, refusedRows,
			fmt.Sprintf("its labels have %d characters, over the limit of %d", characters, exemplar.ExemplarMaxLabelSetLength))
	}
	if err := q.takeRow(); err != nil {
		return err
	}
	q.Exemplars = append(q.Exemplars, wire.RequestExemplar{
		Timestamp: e.timestamp, Value: e.value, Labels: slices.Clip(q.arena[start:]),
	})
	return nil
}

func (q *request) refuseExemplar(m span, refusedRows *int, rule string) error {
	*refusedRows++
	q.refuseSeries(refusedExemplar, m, 1, "exemplar: %s", rule)
	return q.takeRow()
}
