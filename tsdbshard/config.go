package tsdbshard

import (
	"errors"
	"log/slog"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/tsdbshard/block"
)

// Config is what a Shard needs to know.
type Config struct {
	// Dir is the directory of the replica's blocks. The shard makes it, and
	// owns every file in it that has the name of a delta block.
	Dir string
	// Disk is where Dir is. The zero Disk is the operating system's.
	Disk durable.Disk
	// Cache keeps pages of blocks that were read, for all who share it. Nil
	// makes a small one for each shard and each sealed set while it is read.
	Cache *block.Cache
	// Set is the ReplicaSet; files of another one are refused.
	Set quorate.ReplicaSetID
	// Logger gets what an operator should know. Nil discards it.
	Logger *slog.Logger
	// Damaged is told when a reader meets a page of a block that is damaged, each
	// time, from any goroutine. It must not read the shard. Nil is for nobody.
	Damaged func(error)
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
