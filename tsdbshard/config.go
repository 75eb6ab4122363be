package tsdbshard

import (
	"errors"
	"log/slog"

	"github.com/quorate/quorate"
)

// Config is what a Shard needs to know.
type Config struct {
	// Dir is the directory of the replica's flush files. The shard makes it,
	// and owns every file in it that has the name of a flush file.
	Dir string
	// Set is the ReplicaSet; files of another one are refused.
	Set quorate.ReplicaSetID
	// Logger gets what an operator should know. Nil discards it.
	Logger *slog.Logger
	// Metrics are shared by the shards of a process. Nil counts for nobody.
	Metrics *Metrics
}

// Validate tells what is missing.
func (c *Config) Validate() error {
	if c.Dir == "" {
		return errors.New("shard config: Dir is empty")
	}
	return nil
}
