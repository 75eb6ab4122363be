package simulation

import (
	"errors"
	"testing"

	"github.com/quorate/quorate"
)

// step is an event of a history.
type step func(*script)

type script struct {
	*History
	reads  map[string]uint64
	bucket quorate.TimeRange
	err    error
}

func sends(series int, ts ...int64) step {
	return func(s *script) {
		for _, t := range ts {
			s.Send(series, Sample{T: t, V: valueOf(series, t)})
		}
	}
}

func acks(series int, ts ...int64) step {
	return func(s *script) {
		for _, t := range ts {
			s.Acknowledge(series, t)
		}
	}
}

func refuses(series int, t int64) step { return func(s *script) { s.Refuse(series, t) } }

func begins(read string) step { return func(s *script) { s.reads[read] = s.BeginRead() } }

// turnsTo has the reads that follow be of one bucket.
func turnsTo(from, to int64) step {
	return func(s *script) { s.bucket = quorate.TimeRange{Start: from, End: to} }
}

func shows(read string, series int, ts ...int64) step {
	var samples []Sample
	for _, t := range ts {
		samples = append(samples, Sample{T: t, V: valueOf(series, t)})
	}
	return showsSamples(read, series, samples...)
}

func showsSamples(read string, series int, samples ...Sample) step {
	return func(s *script) {
		if err := s.EndRead(s.reads[read], "node1", s.bucket, series, samples); err != nil && s.err == nil {
			s.err = err
		}
	}
}

// TestTheCheckerFindsEachViolation has a history of each kind that must not be,
// and next to it those that look alike and may be.
func TestTheCheckerFindsEachViolation(t *testing.T) {
	for name, tc := range map[string]struct {
		steps []step
		want  ViolationKind // empty: none
	}{
		"nothing":                        {[]step{begins("r"), shows("r", 0)}, ""},
		"what was acknowledged is there": {[]step{sends(0, 1, 2), acks(0, 1, 2), begins("r"), shows("r", 0, 1, 2)}, ""},
		"what was acknowledged is not there": {
			[]step{sends(0, 1, 2, 3), acks(0, 1, 2, 3), begins("r"), shows("r", 0, 1, 3)}, Lost},
		"the oldest is not there": {
			[]step{sends(0, 1, 2), acks(0, 1, 2), begins("r"), shows("r", 0, 2)}, Lost},
		"nothing is there": {
			[]step{sends(0, 1), acks(0, 1), begins("r"), shows("r", 0)}, Lost},
		"the newest is not there": {
			[]step{sends(0, 1, 2), acks(0, 1, 2), begins("r"), shows("r", 0, 1)}, WentBack},
		"an acknowledgment while the read goes on may be missing": {
			[]step{sends(0, 1), begins("r"), acks(0, 1), shows("r", 0)}, ""},
		"an acknowledgment while the read goes on may be there": {
			[]step{sends(0, 1), begins("r"), acks(0, 1), shows("r", 0, 1)}, ""},
		"a second acknowledgment changes nothing": {
			[]step{sends(0, 1), acks(0, 1), begins("r"), acks(0, 1), shows("r", 0)}, Lost},
		"an unknown outcome may be missing": {[]step{sends(0, 1), begins("r"), shows("r", 0)}, ""},
		"an unknown outcome may be there":   {[]step{sends(0, 1), begins("r"), shows("r", 0, 1)}, ""},
		"an unknown outcome may come late": {
			[]step{sends(0, 1, 2), acks(0, 2), begins("r"), shows("r", 0, 2), begins("s"), shows("s", 0, 1, 2)}, ""},
		"an unknown outcome that was read has to stay": {
			[]step{sends(0, 1, 2), acks(0, 2), begins("r"), shows("r", 0, 1, 2), begins("s"), shows("s", 0, 2)}, Vanished},
		"the newest goes back between two reads": {
			[]step{sends(0, 1, 2), acks(0, 1), begins("r"), shows("r", 0, 1, 2), begins("s"), shows("s", 0, 1)}, WentBack},
		"the newest may go back between reads that overlap": {
			[]step{sends(0, 1, 2), acks(0, 1), begins("r"), begins("s"), shows("r", 0, 1, 2), shows("s", 0, 1)}, ""},
		"a read of long ago binds nobody but those after it": {
			[]step{sends(0, 1), begins("r"), begins("s"), shows("s", 0, 1), shows("r", 0), begins("u"), shows("u", 0)}, Vanished},
		"nobody sent it":               {[]step{sends(0, 1), begins("r"), shows("r", 0, 1, 7)}, Invented},
		"it was sent to another":       {[]step{sends(0, 1), sends(1, 2), begins("r"), shows("r", 0, 1, 2)}, Invented},
		"nothing was sent to it":       {[]step{sends(0, 1), begins("r"), shows("r", 5, 1)}, Invented},
		"it is sent later":             {[]step{begins("r"), shows("r", 0, 1), sends(0, 1)}, Invented},
		"it has another value":         {[]step{sends(0, 1), begins("r"), showsSamples("r", 0, Sample{T: 1, V: 0.5})}, Invented},
		"it has another series' value": {[]step{sends(0, 1), sends(1, 1), begins("r"), showsSamples("r", 0, Sample{T: 1, V: valueOf(1, 1)})}, Invented},
		"it is there twice":            {[]step{sends(0, 1, 2), begins("r"), shows("r", 0, 1, 1, 2)}, Twice},
		"it is out of order":           {[]step{sends(0, 1, 2), begins("r"), shows("r", 0, 2, 1)}, Twice},
		"it was refused":               {[]step{sends(0, 1, 2), refuses(0, 1), acks(0, 2), begins("r"), shows("r", 0, 1, 2)}, Refused},
		"it was refused, and is not there": {
			[]step{sends(0, 1, 2), refuses(0, 1), acks(0, 2), begins("r"), shows("r", 0, 2)}, ""},
		"a bucket shows what is its own": {
			[]step{sends(0, 1, 2, 3, 4), acks(0, 1, 2, 3, 4), turnsTo(2, 4), begins("r"), shows("r", 0, 2, 3)}, ""},
		"a bucket has to show what is its own": {
			[]step{sends(0, 1, 2, 3, 4), acks(0, 1, 2, 3, 4), turnsTo(2, 4), begins("r"), shows("r", 0, 3)}, Lost},
		"a bucket ends before its end": {
			[]step{sends(0, 1, 2, 3, 4), acks(0, 1, 2, 3, 4), turnsTo(2, 4), begins("r"), shows("r", 0, 2, 3, 4)}, Misplaced},
		"a bucket begins at its start": {
			[]step{sends(0, 1, 2, 3, 4), acks(0, 1, 2, 3, 4), turnsTo(2, 4), begins("r"), shows("r", 0, 1, 2, 3)}, Misplaced},
		"a read of one bucket binds no other": {
			[]step{sends(0, 1, 2), turnsTo(0, 2), begins("r"), shows("r", 0, 1), turnsTo(2, 4), begins("s"), shows("s", 0)}, ""},
		"series do not mix": {
			[]step{sends(0, 1), sends(1, 1), acks(1, 1), begins("r"), shows("r", 0), shows("r", 1, 1)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{History: NewHistory(), reads: map[string]uint64{}, bucket: quorate.Forever}
			for _, do := range tc.steps {
				do(s)
			}
			var v *Violation
			switch found := errors.As(s.err, &v); {
			case tc.want == "" && found:
				t.Errorf("found %v in a history that may be", v)
			case tc.want != "" && !found:
				t.Errorf("found nothing, want: %s", tc.want)
			case found && v.Kind != tc.want:
				t.Errorf("found %v, want: %s", v, tc.want)
			}
		})
	}
}
