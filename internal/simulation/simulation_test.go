package simulation

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	defaultSeeds   = 2
	defaultMinutes = 10
	// A run with less load than this per virtual minute shows nothing.
	leastBatches = 60
	leastReads   = 60
)

// setting reads a number of the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// directory returns an empty directory, in memory where there is one.
func directory(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "quorate-simulation-") //nolint:usetesting // its directories are on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// simulate is one run in a bubble of its own.
func simulate(t *testing.T, seed uint64, length time.Duration, m mutant) (report *Report, err error) {
	t.Helper()
	dir := directory(t)
	defer keepCodecs(t)()
	synctest.Test(t, func(t *testing.T) {
		report, err = Run(t.Context(), Config{Seed: seed, Dir: dir, Length: length, Settle: synctest.Wait, mutant: m})
	})
	return report, err
}

// TestSimulation runs as many seeds as QUORATE_SIM_SEEDS says, from
// QUORATE_SIM_FIRST on, each for QUORATE_SIM_MINUTES of virtual time.
func TestSimulation(t *testing.T) {
	seeds, first := setting(t, "QUORATE_SIM_SEEDS", defaultSeeds), setting(t, "QUORATE_SIM_FIRST", 1)
	minutes := setting(t, "QUORATE_SIM_MINUTES", defaultMinutes)
	for i := range seeds {
		seed := uint64(first + i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			began := time.Now()
			report, err := simulate(t, seed, time.Duration(minutes)*time.Minute, noMutant)
			t.Logf("%v real; %v", time.Since(began).Round(time.Millisecond), report)
			if err != nil {
				t.Fatalf("seed %d (another run of it may go otherwise): %v\n%s", seed, err, strings.Join(report.Trace, "\n"))
			}
			if n := report.Counts["batches acknowledged"]; n < leastBatches*minutes {
				t.Errorf("only %d batches were acknowledged in %d minutes", n, minutes)
			}
			if n := report.Counts["reads"]; n < leastReads*minutes {
				t.Errorf("only %d reads were made in %d minutes", n, minutes)
			}
			if minutes >= defaultMinutes && report.Counts["rollovers"] == 0 {
				t.Errorf("no writer came to a second bucket in %d minutes", minutes)
			}
			if report.ReadLease != (report.ByLease > leastReads*minutes/4) {
				t.Errorf("%d reads were confirmed by leases, whose setting is %t", report.ByLease, report.ReadLease)
			}
		})
	}
}
