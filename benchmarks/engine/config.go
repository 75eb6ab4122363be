package engine

import (
	"errors"
	"fmt"
)

// Config says how much is measured. The zero value measures 100,000 series.
type Config struct {
	// Series is their number; 0 is 100,000.
	Series int
	// Rounds are the samples of each series when memory is measured; 0 is 100.
	Rounds int
	// BlockRounds are the samples of each series when a block is written, at
	// least Rounds; 0 is 240.
	BlockRounds int
	// Passes is how often encodings are measured, of which the quickest counts,
	// since what else runs can only add to it; 0 is 15.
	Passes int
	// Dir is where the engines put their files, an empty directory.
	Dir string
	// Seed chooses the samples.
	Seed uint64
}

// samplesPerEntry is how many samples a log entry has, and a commit of Prometheus.
const samplesPerEntry = 2000

const (
	start    = 1_760_000_400_000 // ms, where blocks of two hours begin
	interval = 15_000
)

func (c *Config) setDefaults() error {
	for _, d := range []struct {
		value *int
		none  int
	}{{&c.Series, 100_000}, {&c.Rounds, 100}, {&c.BlockRounds, 240}, {&c.Passes, 15}} {
		if *d.value == 0 {
			*d.value = d.none
		}
	}
	if c.Dir == "" {
		return errors.New("engine benchmark: Dir is empty")
	}
	if c.Series < 1 || c.Passes < 1 || c.Rounds < 1 || c.BlockRounds < c.Rounds || c.BlockRounds > 480 {
		return fmt.Errorf("engine benchmark of %d series, %d rounds and %d in a block: want at least 1, 1, and as many up to 480", c.Series, c.Rounds, c.BlockRounds)
	}
	return nil
}
