package simulation

import (
	"errors"
	"slices"
	"testing"
	"time"
)

const (
	// A mistake has to be found within so many runs of so long.
	mutantSeeds  = 16
	mutantLength = 10 * time.Minute
)

// TestMistakesAreFound makes mistakes on purpose. A simulation that does not
// find them would not find them in the code either.
func TestMistakesAreFound(t *testing.T) {
	for name, tc := range map[string]struct {
		mutant mutant
		kinds  []ViolationKind
	}{
		"reads without a quorum's word":    {readsUnconfirmed, []ViolationKind{WentBack, Lost, Vanished}},
		"promises that are not kept":       {promisesTooMuch, []ViolationKind{WentBack, Lost, Vanished}},
		"reads at followers":               {readsFollowers, []ViolationKind{WentBack, Lost, Vanished}},
		"acknowledgments before commit":    {acknowledgesEarly, []ViolationKind{WentBack, Lost}},
		"disks that lose what was fsynced": {forgets, []ViolationKind{WentBack, Lost, Vanished}},
		"sets without bounds":              {boundless, []ViolationKind{Misplaced}},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			for seed := uint64(1); seed <= mutantSeeds; seed++ {
				report, err := simulate(t, seed, mutantLength, tc.mutant)
				if err == nil {
					continue
				}
				var v *Violation
				if !errors.As(err, &v) || !slices.Contains(tc.kinds, v.Kind) {
					t.Fatalf("seed %d: found something else: %v", seed, err)
				}
				t.Logf("run %d, after %v (%v real): %v", seed, report.Virtual.Round(time.Second), time.Since(began).Round(time.Millisecond), v)
				return
			}
			t.Errorf("%d runs of %v found nothing", mutantSeeds, mutantLength)
		})
	}
}

// TestADivergenceIsFound has members apply what no client can see: only their
// comparison shows it.
func TestADivergenceIsFound(t *testing.T) {
	report, err := simulate(t, 1, time.Minute, diverges)
	if !errors.Is(err, errDiverged) {
		t.Fatalf("found: %v (%v)", err, report)
	}
}
